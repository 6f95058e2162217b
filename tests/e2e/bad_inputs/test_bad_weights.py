"""Broken and dangerous uploads: status and sentence say so, and nothing is run."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from support.bad_requests import DATA_LOSS, INVALID, MAX_UPLOAD_BYTES, Bad, check
from support.stock_calls import StockCaller, extraction, spec
from thingsvision_proto.v1 import thingsvision_pb2 as pb


@dataclass(frozen=True)
class Touch:
    """Creates a file when it is unpickled."""

    path: Path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def upload(content: bytes, **header: Any) -> list[Any]:
    fields = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)} | header
    requests = [pb.UploadWeightsRequest(header=pb.UploadWeightsHeader(**fields))]
    chunks = [content[start : start + 1_000_000] for start in range(0, len(content), 1_000_000)]
    return requests + [pb.UploadWeightsRequest(chunk=chunk) for chunk in chunks]


def torch_bytes(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def pickled_network() -> bytes:
    return torch_bytes(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    "packed",
    [
        pickle.dumps,
        torch_bytes,
        lambda payload: torch_bytes({"weight": torch.ones(2), "more": payload}),
        lambda payload: torch_bytes([payload], _use_new_zipfile_serialization=False),
    ],
    ids=["pickle", "torch file", "in a state dict", "old torch file"],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_is_refused_and_never_run(
    stock: StockCaller, tmp_path: Path, packed: Callable[[Any], bytes]
) -> None:
    armed = tmp_path / "armed"
    pickle.loads(pickle.dumps(Touch(armed)))
    assert armed.exists(), "the payload does nothing when it is run"
    target = tmp_path / "executed"
    content = packed(Touch(target))
    refusal = stock.refusal("UploadWeights", upload(content))
    check(refusal, INVALID, "InvalidWeightsError", ("without running code", "state_dict()"))
    assert not target.exists()
    use = extraction("features", model=spec(weights_sha256=hashlib.sha256(content).hexdigest()))
    assert stock.refusal("Extract", [use]).reason == "UnknownWeightsError"


SAFE = safetensors_bytes({"weight": torch.ones(1000)})
TORCH = torch_bytes({"weight": torch.ones(1000)})

WEIGHTS: dict[str, Bad] = {
    "truncated safetensors": Bad(
        lambda: upload(SAFE[:-100]), INVALID, "InvalidWeightsError", ("safetensors",)
    ),
    "truncated header of safetensors": Bad(
        lambda: upload(SAFE[:20]), INVALID, "InvalidWeightsError", ("safetensors",)
    ),
    "truncated torch file": Bad(
        lambda: upload(TORCH[:-500]), INVALID, "InvalidWeightsError", ("torch file",)
    ),
    "text": Bad(lambda: upload(b"hello\n"), INVALID, "InvalidWeightsError", ("torch file",)),
    "a whole network": Bad(
        lambda: upload(pickled_network()), INVALID, "InvalidWeightsError", ("state_dict()",)
    ),
    "a tensor": Bad(
        lambda: upload(torch_bytes(torch.ones(3))),
        INVALID,
        "InvalidWeightsError",
        ("must contain a state dict", "mapping"),
    ),
    "numbers": Bad(
        lambda: upload(torch_bytes({"epoch": 3})), INVALID, "InvalidWeightsError", ("tensors",)
    ),
    "another SHA-256": Bad(
        lambda: upload(SAFE, sha256="0" * 64),
        DATA_LOSS,
        "ChecksumError",
        (hashlib.sha256(SAFE).hexdigest(),),
    ),
    "no SHA-256": Bad(
        lambda: upload(SAFE, sha256="../x"), INVALID, "InvalidRequestError", ("'../x'", "64")
    ),
    "SHA-256 in capitals": Bad(
        lambda: upload(SAFE, sha256="A" * 64), INVALID, "InvalidRequestError", ("lower-case",)
    ),
    "more bytes than announced": Bad(
        lambda: upload(SAFE, size_bytes=100), INVALID, "InvalidRequestError", ("100 bytes",)
    ),
    "size 0": Bad(lambda: upload(b""), INVALID, "InvalidRequestError", ("1 to", "got 0")),
    "too large": Bad(
        lambda: upload(SAFE, size_bytes=MAX_UPLOAD_BYTES + 1),
        INVALID,
        "InvalidRequestError",
        (f"{MAX_UPLOAD_BYTES:,}",),
    ),
    "no header": Bad(
        lambda: upload(SAFE)[1:], INVALID, "InvalidRequestError", ("'chunk'", "header")
    ),
    "header twice": Bad(
        lambda: upload(SAFE)[:1] * 2, INVALID, "InvalidRequestError", ("a second header",)
    ),
    "empty stream": Bad(list, INVALID, "InvalidRequestError", ("is empty",)),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_bad_weights_are_refused_and_leave_nothing(
    stock: StockCaller, uploads: Path, case: str
) -> None:
    bad = WEIGHTS[case]
    before = sorted(uploads.glob("*"))
    check(stock.refusal("UploadWeights", bad.requests()), bad.code, bad.reason, bad.words)
    assert sorted(uploads.glob("*")) == before


def test_fewer_bytes_than_announced_are_refused_and_kept_for_the_rest(
    stock: StockCaller, uploads: Path
) -> None:
    words = (f"{len(SAFE) - 5:,} of {len(SAFE):,} bytes arrived", "to resume there")
    requests = [*upload(SAFE)[:1], pb.UploadWeightsRequest(chunk=SAFE[:-5])]
    check(stock.refusal("UploadWeights", requests), INVALID, "InvalidRequestError", words)
    (partial,) = uploads.glob(f"partial-{hashlib.sha256(SAFE).hexdigest()}-*")
    assert partial.read_bytes() == SAFE[:-5]
    partial.unlink()


def outcome(stock: StockCaller, requests: list[Any]) -> grpc.StatusCode:
    try:
        stock.call("UploadWeights", requests)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


OLD = torch_bytes({"weight": torch.ones(1000)}, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("whole", [SAFE, TORCH, OLD], ids=["safetensors", "torch", "old torch"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_damaged_file_is_more_than_an_invalid_one(
    stock: StockCaller, uploads: Path, whole: bytes
) -> None:
    """The readers of the libraries raise whatever comes of it."""
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole[: random.integers(1, len(whole))])
        for place in random.integers(0, min(len(damaged), 400), 4):
            damaged[place] = random.integers(0, 256)
        assert outcome(stock, upload(bytes(damaged))) in (INVALID, grpc.StatusCode.OK)
    assert list(uploads.glob("partial-*")) == []


def test_weights_of_another_network_do_not_fit(stock: StockCaller) -> None:
    assert stock.call("UploadWeights", upload(SAFE))[-1].complete
    use = spec(weights_sha256=hashlib.sha256(SAFE).hexdigest())
    words = ("torchvision/squeezenet1_1", "features.0.weight")
    refusal = stock.refusal("Extract", [extraction("features", model=use)])
    check(refusal, INVALID, "WeightsMismatchError", words)


def test_a_zip_file_with_other_content_is_not_a_torch_file(stock: StockCaller) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refusal = stock.refusal("UploadWeights", upload(file.getvalue()))
    check(refusal, INVALID, "InvalidWeightsError", ("torch file",))
