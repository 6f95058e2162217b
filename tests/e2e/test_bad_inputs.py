"""Whatever is wrong with a request, its status and sentence say so, and the server goes on."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import save as safetensors_bytes

from support.serving import TestServer, serving
from support.stock_calls import Refusal, StockCaller, extraction, image, spec, stock_calls
from thingsvision_client import Client
from thingsvision_client import errors as client_errors
from thingsvision_proto.v1 import thingsvision_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
DATA_LOSS = grpc.StatusCode.DATA_LOSS

MODEL = "torchvision/squeezenet1_1@random:0"
MAX_IMAGE_BYTES = 200_000
MAX_UPLOAD_BYTES = 10_000_000


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
GOOD = encoded(Pillow.fromarray(NOISE))
JPEG = encoded(Pillow.fromarray(NOISE), "JPEG")


def declares_20000_x_20000() -> bytes:
    """A GIF of 43 bytes that declares a screen and a frame far beyond what it holds."""
    gif = bytearray(encoded(Pillow.new("L", (1, 1)), "GIF"))
    side = (20_000).to_bytes(2, "little")
    gif[6:10] = side + side
    descriptor = gif.index(b"\x2c\0\0\0\0\1\0\1\0")
    gif[descriptor + 5 : descriptor + 9] = side + side
    return bytes(gif)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TestServer]:
    """A server with low limits."""
    limits = {"max_image_bytes": MAX_IMAGE_BYTES, "max_upload_bytes": MAX_UPLOAD_BYTES}
    with serving(folder, drain_seconds=1.0, **limits) as running:
        yield running


@pytest.fixture
def uploads(folder: Path) -> Path:
    return folder / "uploads"


@pytest.fixture(scope="module")
def expected(server: TestServer) -> Any:
    with Client(server.address) as client:
        return features(client)


def features(client: Client) -> Any:
    return client.extract(MODEL, [("good", GOOD)], "features.0", batch_size=1).features


@pytest.fixture
def stock(server: TestServer, client: Client, expected: Any) -> Iterator[StockCaller]:
    """A caller; after the test, the server still does its work, and holds no lease."""
    with stock_calls(server.address) as caller:
        yield caller
    np.testing.assert_array_equal(features(client)["features.0"], expected["features.0"])
    assert all(model.lease_count == 0 for model in client.residency().models)


@dataclass(frozen=True)
class Bad:
    """A request stream, and how it must be refused."""

    requests: Callable[[], list[Any]]
    code: grpc.StatusCode
    reason: str
    words: tuple[str, ...]


def check(refusal: Refusal, code: grpc.StatusCode, reason: str, words: tuple[str, ...]) -> None:
    assert (refusal.code, refusal.reason) == (code, reason), refusal.sentence
    for word in words:
        assert word in refusal.sentence


# ---------------------------------------------------------------- images

BROKEN_IMAGES: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "truncated JPEG": (lambda: JPEG[: len(JPEG) // 2], ("is broken", "truncated")),
    "truncated PNG": (lambda: GOOD[: len(GOOD) // 2], ("is broken",)),
    "header of a JPEG alone": (lambda: JPEG[:20], ("is broken", "JPEG, PNG")),
    "text file": (lambda: b"not an image\n" * 20, ("is not a JPEG, PNG, TIFF, WebP, BMP or GIF",)),
    "0 bytes": (lambda: b"", ("0 bytes",)),
    "EPS": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ("is not a JPEG, PNG",)),
    "20,000 x 20,000 pixels": (
        lambda: encoded(Pillow.new("1", (20_000, 20_000))),
        ("20000 x 20000 pixels", "100,000,000"),
    ),
    "GIF that declares 20,000 x 20,000 pixels": (
        declares_20000_x_20000,
        ("20000 x 20000 pixels", "100,000,000"),
    ),
    "too many bytes": (lambda: GOOD + bytes(MAX_IMAGE_BYTES), ("bytes", f"{MAX_IMAGE_BYTES:,}")),
}


@pytest.mark.parametrize("case", BROKEN_IMAGES)
@pytest.mark.parametrize("place", [0, 2])
def test_a_broken_image_is_named_and_no_other(stock: StockCaller, case: str, place: int) -> None:
    make, words = BROKEN_IMAGES[case]
    contents = [GOOD] * 4
    contents[place] = make()
    images = [image(i, f"photo-{i}.jpg", content) for i, content in enumerate(contents)]
    refusal = stock.refusal("Extract", [extraction("features.0"), *images])
    assert (refusal.code, refusal.reason) == (INVALID, "ImageError"), refusal.sentence
    assert any(word in refusal.sentence for word in words), refusal.sentence
    assert f"image {place} ('photo-{place}.jpg')" in refusal.sentence
    assert refusal.details["BadRequest"].field_violations[0].field == f"image[{place}]"
    assert refusal.details["ErrorInfo"].metadata["subject"] == f"photo-{place}.jpg"


def test_a_broken_image_is_named_whatever_the_batch_and_the_call(stock: StockCaller) -> None:
    images = [pb.Image(index=i, name=str(i), encoded=GOOD) for i in range(9)]
    images[7].encoded = JPEG[:100]
    header = extraction("features.0", batch_size=4)
    refusal = stock.refusal(
        "Extract", [header, *(pb.ExtractRequest(image=message) for message in images)]
    )
    check(refusal, INVALID, "ImageError", ("image 7 ('7')",))
    compared = pb.ComputeRDMHeader(metric=pb.METRIC_COSINE, extraction=header.header)
    requests = [pb.ComputeRDMRequest(header=compared)]
    requests += [pb.ComputeRDMRequest(image=message) for message in images]
    check(stock.refusal("ComputeRDM", requests), INVALID, "ImageError", ("image 7 ('7')",))


def test_the_first_of_two_broken_images_is_told(stock: StockCaller) -> None:
    """A big broken image is decoded longer than the small one after it."""
    large = encoded(Pillow.fromarray(np.tile(NOISE[:60, :60], (20, 20, 1))), "JPEG")
    images = [image(0, "large", large[:-5000]), image(1, "empty", b"")]
    refusal = stock.refusal("Extract", [extraction("features.0"), *images])
    check(refusal, INVALID, "ImageError", ("image 0 ('large')",))


def test_the_client_raises_it_as_its_own(stock: StockCaller, client: Client) -> None:
    with pytest.raises(client_errors.ImageError, match=r"image 1 \('bad'\)") as caught:
        client.extract(
            "torchvision/squeezenet1_1@random:0", [("a", GOOD), ("bad", b"x")], "features"
        )
    assert caught.value.subject == "bad"


# ---------------------------------------------------------------- streams and names

NEVER_RUNS = "encoder.layers.encoder_layer_0.self_attention.out_proj"

EXTRACTIONS: dict[str, Bad] = {
    "empty stream": Bad(list, INVALID, "InvalidRequestError", ("is empty", "header")),
    "header missing": Bad(
        lambda: [image(0, "a", GOOD)], INVALID, "InvalidRequestError", ("'image'", "header")
    ),
    "empty first message": Bad(
        lambda: [pb.ExtractRequest()], INVALID, "InvalidRequestError", ("header",)
    ),
    "header twice": Bad(
        lambda: [extraction("features.0"), image(0, "a", GOOD), extraction("features.0")],
        INVALID,
        "InvalidRequestError",
        ("a second header", "'image'"),
    ),
    "header without images": Bad(
        lambda: [extraction("features.0")], INVALID, "InvalidRequestError", ("no image",)
    ),
    "message without a part": Bad(
        lambda: [extraction("features.0"), pb.ExtractRequest()],
        INVALID,
        "InvalidRequestError",
        ("'nothing'", "'image'"),
    ),
    "image without content": Bad(
        lambda: [extraction("features.0"), pb.ExtractRequest(image=pb.Image(name="a"))],
        INVALID,
        "InvalidRequestError",
        ("image 0 ('a')", "encoded"),
    ),
    "image number left out": Bad(
        lambda: [extraction("features.0"), image(0, "a", GOOD), image(2, "c", GOOD)],
        INVALID,
        "InvalidRequestError",
        ("'c'", "2", "1 must follow"),
    ),
    "image number twice": Bad(
        lambda: [extraction("features.0"), image(0, "a", GOOD), image(0, "b", GOOD)],
        INVALID,
        "InvalidRequestError",
        ("'b'", "1 must follow"),
    ),
    "unknown module": Bad(
        lambda: [extraction("features.12.squeese")],
        INVALID,
        "UnknownModuleError",
        ("'features.12.squeese'", "Did you mean 'features.12.squeeze'"),
    ),
    "no module": Bad(lambda: [extraction()], INVALID, "InvalidRequestError", ("at least one",)),
    "module twice": Bad(
        lambda: [extraction("features.0", "features.0")],
        INVALID,
        "InvalidRequestError",
        ("'features.0'", "twice"),
    ),
    "module that never runs": Bad(
        lambda: [extraction(NEVER_RUNS, model=spec("vit_b_16"))],
        PRECONDITION,
        "ModuleNeverRunsError",
        (NEVER_RUNS, "does not run"),
    ),
    "unknown model": Bad(
        lambda: [extraction("features", model=spec("squeezenet1_2"))],
        NOT_FOUND,
        "UnknownModelError",
        ("'squeezenet1_2'", "'squeezenet1_0'", "'squeezenet1_1'"),
    ),
    "unknown source": Bad(
        lambda: [extraction("features", model=spec(source="torchvison"))],
        NOT_FOUND,
        "UnknownSourceError",
        ("'torchvison'", "'torchvision'", "timm"),
    ),
    "unknown tag": Bad(
        lambda: [extraction("features", model=spec(pretrained_tag="IMAGENET1K_V9"))],
        NOT_FOUND,
        "UnknownWeightsError",
        ("'IMAGENET1K_V9'", "'IMAGENET1K_V1'"),
    ),
    "no such upload": Bad(
        lambda: [extraction("features", model=spec(weights_sha256="0" * 64))],
        NOT_FOUND,
        "UnknownWeightsError",
        ("0" * 64, "upload"),
    ),
    "upload by a path": Bad(
        lambda: [extraction("features", model=spec(weights_sha256="../../etc/passwd"))],
        NOT_FOUND,
        "UnknownWeightsError",
        ("'../../etc/passwd'",),
    ),
    "no model": Bad(
        lambda: [pb.ExtractRequest(header=pb.ExtractHeader(modules=["features"]))],
        INVALID,
        "InvalidRequestError",
        ("no source",),
    ),
    "no weights here": Bad(
        lambda: [extraction("features", model=spec(pretrained_tag="IMAGENET1K_V1"))],
        PRECONDITION,
        "WeightsMissingError",
        (
            "torchvision/squeezenet1_1@IMAGENET1K_V1",
            "squeezenet1_1.IMAGENET1K_V1.safetensors",
            "squeezenet1_1-b8a52dc0.pth",
        ),
    ),
}


@pytest.mark.parametrize("case", EXTRACTIONS)
def test_a_bad_request_is_refused_with_what_would_be_right(stock: StockCaller, case: str) -> None:
    bad = EXTRACTIONS[case]
    check(stock.refusal("Extract", bad.requests()), bad.code, bad.reason, bad.words)


@pytest.mark.parametrize("method", ["ListModules", "LoadModel", "UnloadModel", "PinModel"])
def test_every_call_names_near_models(stock: StockCaller, method: str) -> None:
    request = getattr(pb, f"{method}Request")(model=spec("squeezenet1_2"))
    words = ("'squeezenet1_2'", "'squeezenet1_1'")
    check(stock.refusal(method, request), NOT_FOUND, "UnknownModelError", words)


def test_a_model_that_is_not_resident_can_not_be_unloaded(stock: StockCaller) -> None:
    request = pb.UnloadModelRequest(model=spec("resnet18"))
    words = ("torchvision/resnet18@random:0",)
    check(stock.refusal("UnloadModel", request), NOT_FOUND, "NotResidentError", words)


def test_models_of_an_unknown_source_can_not_be_listed(stock: StockCaller) -> None:
    refusal = stock.refusal("ListModels", pb.ListModelsRequest(source="keras2"))
    check(refusal, NOT_FOUND, "UnknownSourceError", ("'keras2'", "timm", "torchvision"))


# ---------------------------------------------------------------- weights


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
        ("no state dict", "mapping"),
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
    "size 0": Bad(lambda: upload(b""), INVALID, "InvalidRequestError", ("1 to", "not 0")),
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
    words = (f"{len(SAFE) - 5:,} of {len(SAFE):,} bytes arrived", "to go on there")
    requests = [*upload(SAFE)[:1], pb.UploadWeightsRequest(chunk=SAFE[:-5])]
    check(stock.refusal("UploadWeights", requests), INVALID, "InvalidRequestError", words)
    partial = uploads / f"partial-{hashlib.sha256(SAFE).hexdigest()}"
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


def test_a_zip_file_with_other_things_is_no_torch_file(stock: StockCaller) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refusal = stock.refusal("UploadWeights", upload(file.getvalue()))
    check(refusal, INVALID, "InvalidWeightsError", ("torch file",))


# ---------------------------------------------------------------- ready features


def table(**columns: Any) -> pa.Table:
    return pa.table({"image": pa.array(["a", "b", "c"]), **columns})


def vectors(values: Any, kind: Any = None) -> pa.Array:
    return pa.array(values, pa.list_(kind or pa.float32(), 2))


def ipc(content: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content)
    return file.getvalue()


def compared(*frames: bytes, metric: Any = pb.METRIC_EUCLIDEAN) -> list[Any]:
    header = pb.ComputeRDMHeader(metric=metric)
    sent = [pb.ArrowFrame(index=i, arrow_ipc=frame) for i, frame in enumerate(frames)]
    return [
        pb.ComputeRDMRequest(header=header),
        *(pb.ComputeRDMRequest(features=frame) for frame in sent),
    ]


def permuted() -> pa.Table:
    kind = pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[1, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(18, np.float32)), 6)
    return table(permuted=pa.ExtensionArray.from_storage(kind, storage))


PAIRS = [[1, 2], [3, 4], [5, 7]]
FINE = ipc(table(x=vectors(PAIRS)))

FEATURES: dict[str, tuple[Callable[[], list[Any]], tuple[str, ...]]] = {
    "null in a row": (
        lambda: compared(ipc(table(x=vectors([[1, 2], [3, None], [5, 6]])))),
        ("'x'",),
    ),
    "null row": (lambda: compared(ipc(table(x=vectors([[1, 2], None, [5, 6]])))), ("'x'", "null")),
    "null name": (
        lambda: compared(ipc(pa.table({"image": pa.array(["a", None, "c"]), "x": vectors(PAIRS)}))),
        ("'image'", "null"),
    ),
    "whole numbers": (
        lambda: compared(ipc(table(x=vectors(PAIRS, pa.int32())))),
        ("'x'", "int32", "float32 or float64"),
    ),
    "float16": (
        lambda: compared(ipc(table(x=vectors(np.float16(PAIRS).tolist(), pa.float16())))),
        ("'x'", "float32 or float64"),
    ),
    "rows of any length": (
        lambda: compared(ipc(table(x=pa.array(PAIRS)))),
        ("'x'", "list", "FixedSizeList"),
    ),
    "single numbers": (lambda: compared(ipc(table(x=pa.array([1.0, 2, 3])))), ("'x'", "double")),
    "permuted tensors": (lambda: compared(ipc(permuted())), ("'permuted'", "C order")),
    "no column of names": (
        lambda: compared(ipc(pa.table({"x": vectors(PAIRS)}))),
        ("'image'", "utf8"),
    ),
    "no column of features": (lambda: compared(ipc(table())), ("no column",)),
    "two columns of one name": (
        lambda: compared(
            ipc(
                pa.Table.from_arrays(
                    [pa.array(["a", "b", "c"]), vectors(PAIRS), vectors(PAIRS)], ["image", "x", "x"]
                )
            )
        ),
        ("'x'", "one name"),
    ),
    "no rows": (lambda: compared(ipc(table(x=vectors(PAIRS)).slice(0, 0))), ("no rows",)),
    "no frames": (lambda: compared(), ("Arrow",)),
    "junk": (lambda: compared(b"junk" * 1000), ("Arrow",)),
    "junk after the schema": (lambda: compared(FINE[:300], b"junk" * 1000), ("Arrow",)),
    "broken off": (lambda: compared(FINE[:-60]), ("Arrow",)),
    "frame left out": (
        lambda: [
            *compared(FINE[:100]),
            pb.ComputeRDMRequest(features=pb.ArrowFrame(index=2, arrow_ipc=FINE[100:])),
        ],
        ("index 2", "1 must follow"),
    ),
    "an image among the frames": (
        lambda: [
            *compared(FINE[:100]),
            pb.ComputeRDMRequest(image=pb.Image(name="a", encoded=GOOD)),
        ],
        ("'image'", "'features'"),
    ),
    "no metric": (
        lambda: compared(FINE, metric=pb.METRIC_UNSPECIFIED),
        ("correlation", "cosine", "euclidean", "gaussian"),
    ),
    "unknown metric": (
        lambda: compared(FINE, metric=42),
        ("42", "correlation", "cosine", "euclidean", "gaussian"),
    ),
    "unknown element type": (
        lambda: [pb.ComputeRDMRequest(header=pb.ComputeRDMHeader(metric=1, element_type=9))],
        ("9", "FLOAT32", "FLOAT64"),
    ),
    "empty stream": (list, ("is empty",)),
    "no header": (lambda: compared(FINE)[1:], ("'features'", "header")),
    "header twice": (lambda: compared()[:1] * 2, ("a second header",)),
}


@pytest.mark.parametrize("case", FEATURES)
def test_bad_features_are_refused(stock: StockCaller, case: str) -> None:
    make, words = FEATURES[case]
    check(stock.refusal("ComputeRDM", make()), INVALID, "InvalidRequestError", words)


def test_the_features_without_a_fault_are_compared(stock: StockCaller) -> None:
    parts = [reply.WhichOneof("part") for reply in stock.call("ComputeRDM", compared(FINE))]
    assert parts[-1] == "trailer"
