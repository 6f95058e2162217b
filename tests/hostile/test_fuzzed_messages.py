"""Mutated messages of every RPC: none ends as a failure of the server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError

from support.arrow_streams import features, sent, stream
from support.fuzzing import Fuzz, fuzz
from support.serving import TestServer
from support.stock_calls import extraction, image, spec
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.access.person import person_of_peer
from thingsvision_server.errors import ThingsvisionError
from thingsvision_server.rpc.message_size import find_excess
from thingsvision_server.rpc.messages.extraction import extract_spec, preprocess_spec, request_item
from thingsvision_server.rpc.messages.models import model_key, read_preprocessing

__all__ = ["fuzz"]

SECONDS = 20
FAILURES = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)

STEPS = [
    pb.PreprocessingStep(kind="resize", pixels=[64], interpolation="bilinear", antialias=True),
    pb.PreprocessingStep(kind="center_crop", pixels=[64, 64]),
    pb.PreprocessingStep(kind="to_tensor"),
    pb.PreprocessingStep(kind="normalize", mean=[0.5] * 3, std=[0.5] * 3),
]
FIELDS = pb.Preprocessing(
    resize_pixels=[64], crop_pixels=[64, 64], mean=[0.5] * 3, std=[0.2] * 3, value_range="0..1"
)
OVERRIDES = pb.PreprocessingOverrides(resize_pixels=[70], crop_pixels=[64], mean=[0, 0, 0])
REDUCTION = pb.Reduction(
    pool=pb.POOL_MEAN,
    pool_axes=[1, 2],
    units=[0, 3, 5],
    projection=pb.RandomProjection(component_count=2, seed=3),
)
HEADERS = [
    extraction("features.0", batch_size=2, image_count=1).header,
    extraction("features.0", reduction=REDUCTION, deterministic=True).header,
    extraction("features.0", overrides=OVERRIDES, token_extraction=1).header,
    extraction("features.0", preprocessing=FIELDS, element_type=3).header,
    extraction("features.0", preprocessing=pb.Preprocessing(steps=STEPS)).header,
    extraction("features.0", tensors=pb.TensorInput(shape=[3, 64, 64])).header,
]
ITEMS = [
    pb.Image(index=0, name="a", encoded=b"GIF89a"),
    pb.Image(index=0, name="a", text="a cat"),
    pb.Image(index=0, name="a", tensor=bytes(48)),
    pb.Image(index=0, name="a", server_path="a/b.png"),
    pb.Image(index=0, name="a", kept_sha256=bytes(32)),
]
FIT = pb.FitPCAHeader(extraction=HEADERS[0], name="fuzz", component_count=1)
UPLOAD = pb.UploadWeightsHeader(
    sha256=hashlib.sha256(b"abc").hexdigest(), size_bytes=3, name="a.pt", preprocessing=FIELDS
)
RDM_OF_IMAGES = pb.ComputeRDMHeader(extraction=HEADERS[0], metric=pb.METRIC_COSINE)


def read_header(content: bytes) -> None:
    with suppress(ThingsvisionError, DecodeError):
        assert not find_excess(content, pb.ExtractHeader.DESCRIPTOR)
        extract_spec(pb.ExtractHeader.FromString(content))


def read_preprocess_header(content: bytes) -> None:
    with suppress(ThingsvisionError, DecodeError):
        preprocess_spec(pb.PreprocessHeader.FromString(content))


def read_image(content: bytes) -> None:
    with suppress(ThingsvisionError, DecodeError):
        request_item(pb.Image.FromString(content), 0, person_of_peer("someone"))


def read_model(content: bytes) -> None:
    with suppress(ThingsvisionError, DecodeError):
        model_key(pb.ModelSpec.FromString(content))


def read_declaration(content: bytes) -> None:
    with suppress(ThingsvisionError, DecodeError):
        read_preprocessing(pb.Preprocessing.FromString(content))


PARSERS: dict[str, tuple[list[Any], int, Callable[[bytes], None]]] = {
    "headers": (HEADERS, 1_500, read_header),
    "overrides": ([pb.PreprocessHeader(overrides=OVERRIDES)], 500, read_preprocess_header),
    "images": (ITEMS, 1_000, read_image),
    "models": ([spec(), spec("a", weights_sha256="a" * 64, weights_part="b")], 500, read_model),
    "preprocessing": ([FIELDS, pb.Preprocessing(steps=STEPS)], 1_000, read_declaration),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_mutated_message_is_read_or_refused(fuzz: Fuzz, name: str) -> None:
    messages, count, read = PARSERS[name]
    fuzz(name, [one.SerializeToString() for one in messages], count, read)


CALLS: dict[str, list[list[Any]]] = {
    "FeatureService/ListModels": [[pb.ListModelsRequest(source="torchvision", name_glob="alex*")]],
    "FeatureService/ListModules": [[pb.ListModulesRequest(model=spec())]],
    "FeatureService/Extract": [
        [pb.ExtractRequest(header=header), image(0, "a", b"GIF89a")] for header in HEADERS
    ],
    "FeatureService/Preprocess": [
        [pb.PreprocessRequest(header=pb.PreprocessHeader(model=spec(), overrides=OVERRIDES))]
    ],
    "FeatureService/ComputeRDM": [
        sent(stream(features(3, 4))),
        [pb.ComputeRDMRequest(header=RDM_OF_IMAGES)],
    ],
    "ModelService/LoadModel": [[pb.LoadModelRequest(model=spec("no-such"))]],
    "ModelService/UnloadModel": [[pb.UnloadModelRequest(model=spec("no-such"))]],
    "ModelService/PinModel": [[pb.PinModelRequest(model=spec("no-such"), pinned=True)]],
    "ModelService/GetResidency": [[pb.GetResidencyRequest()]],
    "ModelService/UploadWeights": [
        [pb.UploadWeightsRequest(header=UPLOAD), pb.UploadWeightsRequest(chunk=b"abc")]
    ],
    "ModelService/ListUploads": [[pb.ListUploadsRequest()]],
    "ModelService/DeleteUpload": [[pb.DeleteUploadRequest(sha256="a" * 64)]],
    "PCAService/FitPCA": [[pb.FitPCARequest(header=FIT)]],
    "PCAService/ListPCAs": [[pb.ListPCAsRequest()]],
    "PCAService/DeletePCA": [[pb.DeletePCARequest(pca="none")]],
    "ImageService/FindImages": [[pb.FindImagesRequest(sha256=[bytes(32)] * 3)]],
    "ImageService/ListImages": [[pb.ListImagesRequest(folder="a/b")]],
    "ImageService/ListCachedImages": [[pb.ListCachedImagesRequest()]],
    "ImageService/DeleteCachedImages": [[pb.DeleteCachedImagesRequest(sha256=[bytes(32)] * 3)]],
}


@pytest.fixture(scope="module")
def channel(server: TestServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@pytest.mark.parametrize("method", CALLS)
def test_a_mutated_request_is_answered(fuzz: Fuzz, channel: grpc.Channel, method: str) -> None:
    later = {
        messages[0].SerializeToString(): [one.SerializeToString() for one in messages[1:]]
        for messages in CALLS[method]
    }
    call = channel.stream_stream(f"/thingsvision.v1.{method}")
    rest = next(iter(later.values()))

    def send(content: bytes) -> None:
        answer = call(iter([content, *later.get(content, rest)]), timeout=SECONDS)
        with suppress(grpc.RpcError):
            list(answer)
        assert answer.code() not in FAILURES, (answer.code(), answer.details())

    fuzz(method, list(later), 40, send)
