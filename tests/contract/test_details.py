"""A refusal carries the `google.rpc` details of its status, small enough for every client."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from google.rpc import error_details_pb2
from PIL import Image as Pillow

from support.stock_calls import StockCaller, extraction, image, spec, stock_calls
from thingsvision_client import Client, Model
from thingsvision_client import errors as client_errors
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server import errors as server_errors
from thingsvision_server.rpc.status import code_of, internal_status, status_of

TRAILER_BYTES = 8 * 1024
"""What a stock client takes of HTTP/2 trailers; it then drops the call's real status."""


def test_a_bad_module_is_a_bad_request_with_near_matches(stock: StockCaller) -> None:
    refusal = stock.refusal("Extract", [extraction("features.12.squeezed")])
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "UnknownModuleError",
    )
    (violation,) = refusal.details["BadRequest"].field_violations
    assert violation.field == "modules"
    assert "'features.12.squeeze'" in violation.description
    assert refusal.details["ErrorInfo"].domain == "thingsvision"
    assert refusal.details["ErrorInfo"].metadata["subject"] == "features.12.squeezed"


def test_an_unknown_model_is_a_resource(stock: StockCaller) -> None:
    refusal = stock.refusal("ListModules", pb.ListModulesRequest(model=spec("resnet5O")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "UnknownModelError")
    resource = refusal.details["ResourceInfo"]
    assert (resource.resource_type, resource.resource_name) == ("model.name", "resnet5O")
    assert "'resnet50'" in resource.description


def test_missing_weights_are_a_failed_precondition(stock: StockCaller) -> None:
    wanted = spec("squeezenet1_1", pretrained_tag="IMAGENET1K_V1")
    refusal = stock.refusal("LoadModel", pb.LoadModelRequest(model=wanted))
    assert refusal.code == grpc.StatusCode.FAILED_PRECONDITION
    (violation,) = refusal.details["PreconditionFailure"].violations
    assert violation.type == refusal.reason == "WeightsMissingError"
    assert violation.subject == "torchvision/squeezenet1_1@IMAGENET1K_V1"


def test_a_full_server_says_what_is_full_and_not_to_try_again_in_vain(start_server: Any) -> None:
    features = pb.ComputeRDMHeader(
        metric=pb.METRIC_COSINE, extraction=extraction("features").header
    )
    with start_server(rdm_memory=8) as server, stock_calls(server.address) as stock:
        png = _png()
        requests = [pb.ComputeRDMRequest(header=features)]
        requests += [pb.ComputeRDMRequest(image=pb.Image(name="a", encoded=png))]
        refusal = stock.refusal("ComputeRDM", requests)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "ExhaustedError",
    )
    assert refusal.details["QuotaFailure"].violations[0].subject == "image"
    assert "RetryInfo" not in refusal.details, "another attempt needs as much memory"


def _png() -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def test_bytes_other_than_announced_are_data_loss(stock: StockCaller) -> None:
    header = pb.UploadWeightsHeader(sha256="0" * 64, size_bytes=3)
    requests = [pb.UploadWeightsRequest(header=header), pb.UploadWeightsRequest(chunk=b"abc")]
    refusal = stock.refusal("UploadWeights", requests)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "ChecksumError")
    assert hashlib.sha256(b"abc").hexdigest() in refusal.sentence


def test_a_bug_tells_the_requests_id_and_no_innards() -> None:
    code, status = internal_status("some-id")
    assert code == grpc.StatusCode.INTERNAL
    request = error_details_pb2.RequestInfo()
    assert status.details[1].Unpack(request)
    assert request.request_id == "some-id"
    assert "some-id" in status.message


NAMES = {"ascii": "n" * 9_000, "latin": "é" * 4_000, "chinese": "像" * 3_000, "emoji": "🙂" * 2_500}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("place", ["module", "image", "model", "source", "tag", "sha256"])
def test_a_long_name_comes_back_shortened(stock: StockCaller, name: str, place: str) -> None:
    spoilt = {
        "module": [extraction(name)],
        "image": [extraction("features"), image(0, name, b"")],
        "model": [extraction("features", model=spec(name))],
        "source": [extraction("features", model=spec(source=name))],
        "tag": [extraction("features", model=spec(pretrained_tag=name))],
        "sha256": [extraction("features", model=spec(weights_sha256=name))],
    }[place]
    refusal = stock.refusal("Extract", spoilt)
    assert refusal.details, refusal.sentence
    assert name[:50] in refusal.sentence
    sizes = [len(key) + len(value) + 32 for key, value in refusal.trailers.items()]
    assert sum(sizes) + 3 * len(refusal.sentence.encode()) < TRAILER_BYTES


@pytest.mark.parametrize("kind", server_errors.ThingsvisionError.__subclasses__())
@pytest.mark.parametrize(
    "letter", ["a", "\n", "像", "🙂"], ids=["a", "newline", "chinese", "emoji"]
)
def test_no_status_outgrows_the_trailers(
    kind: type[server_errors.ThingsvisionError], letter: str
) -> None:
    error = kind(letter * 9_000, field=letter * 9_000, subject=letter * 9_000)
    code, status = status_of(error)
    assert code == code_of(kind)
    in_header = sum(1 if 32 <= byte < 127 else 3 for byte in status.message.encode())
    in_details = (status.ByteSize() + 2) // 3 * 4
    assert in_header + in_details < TRAILER_BYTES - 512


def test_weights_that_do_not_fit_a_big_model_are_refused_as_such(
    client: Client, stock: StockCaller, tmp_path: Path
) -> None:
    """PyTorch lists every key that is missing: hundreds."""
    path = tmp_path / "other.pt"
    torch.save(
        {f"module.layer{i}.some.long.name.weight": torch.ones(3) for i in range(2_000)}, path
    )
    sha256 = client.upload_weights(path)
    refusal = stock.refusal(
        "LoadModel", pb.LoadModelRequest(model=spec("densenet201", weights_sha256=sha256))
    )
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "WeightsMismatchError",
    )
    assert "torchvision/densenet201" in refusal.sentence
    with pytest.raises(client_errors.WeightsMismatchError, match="torchvision/densenet201"):
        client.load(Model("torchvision", "densenet201", f"sha256:{sha256}"))


def test_a_long_quoted_value_is_cut_and_the_way_out_is_not() -> None:
    value = "x" * 5000
    error = server_errors.InvalidRequestError(
        f"the model's path must be short, got {value!r}; don't send {[1]}"
    )
    _, status = status_of(error)
    assert status.message == (
        f"the model's path must be short, got '{'x' * 100} ... {'x' * 50}' (5,000 characters); "
        "don't send [1]"
    )
