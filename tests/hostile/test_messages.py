"""Messages that no stub would send: each is refused as invalid, and the server works on."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from support.raw_calls import RawCall
from support.serving import TestServer
from support.stock_calls import StockCaller, extraction, image, stock_calls
from thingsvision_client import Client
from thingsvision_proto.v1 import thingsvision_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT

CALLS = [
    "FeatureService/ListModels",
    "FeatureService/ListModules",
    "FeatureService/Extract",
    "FeatureService/Preprocess",
    "FeatureService/ComputeRDM",
    "ModelService/LoadModel",
    "ModelService/PinModel",
    "ModelService/UploadWeights",
    "PCAService/FitPCA",
    "ImageService/FindImages",
    "ImageService/ListImages",
    "ImageService/DeleteCachedImages",
]

NOT_PROTOBUF = {
    "cut in a field": b"\x0a\xff",
    "an endless number": b"\xff" * 12,
    "an end of a group": b"\x0c",
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("content", NOT_PROTOBUF.values(), ids=NOT_PROTOBUF)
def test_bytes_that_are_not_protobuf_are_invalid(raw: RawCall, method: str, content: bytes) -> None:
    error = raw(method, [content])
    assert error.code() == INVALID
    assert f"a message of {len(content)} bytes must be protobuf" in error.details()


def test_a_later_message_that_is_not_protobuf_is_invalid(raw: RawCall) -> None:
    error = raw("FeatureService/Extract", [extraction("features.0").SerializeToString(), b"\xff"])
    assert error.code() == INVALID
    assert "must be protobuf" in error.details()


def test_a_name_that_is_not_utf8_is_invalid(raw: RawCall) -> None:
    sent = image(0, "name", b"x").SerializeToString().replace(b"name", b"\xff\xfe\xfd\xfc")
    error = raw("FeatureService/Extract", [extraction("features.0").SerializeToString(), sent])
    assert error.code() == INVALID
    assert "UTF-8" in error.details()


def test_a_name_of_megabytes_is_invalid(server: TestServer) -> None:
    requests = [extraction("features.0"), image(0, "n" * 5_000_000, b"x")]
    with stock_calls(server.address) as stock:
        refusal = stock.refusal("Extract", requests)
    assert refusal.code == INVALID
    assert "must have at most 16,384 characters, got 5,000,000" in refusal.sentence


TOO_MANY = {
    "empty messages": pb.PreprocessHeader(
        preprocessing=pb.Preprocessing(steps=[pb.PreprocessingStep()] * 60_000)
    ),
    "names": pb.ExtractHeader(modules=["a"] * 60_000),
    "numbers": pb.ExtractHeader(reduction=pb.Reduction(units=[1] * 9_000_000)),
}


@pytest.mark.parametrize("header", TOO_MANY.values(), ids=TOO_MANY)
def test_a_message_that_would_grow_when_it_is_parsed_is_invalid(
    raw: RawCall, header: pb.ExtractHeader | pb.PreprocessHeader
) -> None:
    is_extract = isinstance(header, pb.ExtractHeader)
    kind = pb.ExtractRequest if is_extract else pb.PreprocessRequest
    method = f"FeatureService/{'Extract' if is_extract else 'Preprocess'}"
    error = raw(method, [kind(header=header).SerializeToString()])
    assert error.code() == INVALID
    assert "must be smaller when it is parsed: it has more than" in error.details()


def test_unknown_fields_are_counted_too(raw: RawCall) -> None:
    error = raw("FeatureService/ListModels", [b"\xf8\x07\x01" * 60_000])
    assert error.code() == INVALID
    assert "more than 50,000 fields" in error.details()


LONG_NAMES = {
    "a source": pb.ModelSpec(source="x" * 5_000_000, name="a"),
    "a model": pb.ModelSpec(source="torchvision", name="alexnet" * 700_000),
    "a tag": pb.ModelSpec(source="torchvision", name="alexnet", pretrained_tag="x" * 5_000_000),
}


@pytest.mark.parametrize("model", LONG_NAMES.values(), ids=LONG_NAMES)
def test_a_long_name_of_a_model_is_invalid(server: TestServer, model: pb.ModelSpec) -> None:
    with stock_calls(server.address) as stock:
        refusal = stock.refusal("ListModules", pb.ListModulesRequest(model=model))
    assert refusal.code == INVALID
    assert "must have at most 4,096 characters, got" in refusal.sentence


BAD_PATHS = {
    "a NUL": "a\0b.png",
    "5,000 letters": "x" * 5000 + ".png",
    "5,000 folders": "x/" * 5000 + "y.png",
    "a circle of links": "circle.png",
    "a pipe": "pipe.png",
    "outside": "../../etc/passwd.png",
}


def refuse_path(stock: StockCaller, path: str) -> str:
    sent = pb.ExtractRequest(image=pb.Image(index=0, name="a", server_path=path))
    refusal = stock.refusal("Extract", [extraction("features.0"), sent])
    assert refusal.code == INVALID
    return refusal.sentence


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS)
def test_a_path_that_the_system_refuses_is_invalid(server: TestServer, path: str) -> None:
    with stock_calls(server.address) as stock:
        sentence = refuse_path(stock, path)
        assert "must be an image file below this server's image root, got" in sentence
        assert len(sentence) < 400
        if path != BAD_PATHS["a circle of links"]:
            folder = stock.refusal("ListImages", pb.ListImagesRequest(folder=path))
            assert "this server's image root has no folder" in folder.sentence


def test_a_file_that_is_too_large_is_not_read(server: TestServer) -> None:
    with stock_calls(server.address) as stock:
        sentence = refuse_path(stock, "huge.png")
    assert "has 2,000,001 bytes; this server accepts images of at most 2,000,000 bytes" in sentence


def test_only_files_are_listed(server: TestServer, photos: list[Path]) -> None:
    with Client(server.address) as client:
        found = [one.name for one in client.server_images()]
    assert found == ["good" + photos[0].suffix, "huge.png"]
