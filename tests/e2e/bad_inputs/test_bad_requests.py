"""Broken images, streams and names: status and sentence say so, and the server still works."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as Pillow

from support.bad_requests import (
    GOOD,
    INVALID,
    MAX_IMAGE_BYTES,
    NOISE,
    NOT_FOUND,
    PRECONDITION,
    Bad,
    check,
    encoded,
)
from support.stock_calls import StockCaller, extraction, image, spec
from thingsvision_client import Client
from thingsvision_client import errors as client_errors
from thingsvision_proto.v1 import thingsvision_pb2 as pb

JPEG = encoded(Pillow.fromarray(NOISE), "JPEG")


def declares_20000_x_20000() -> bytes:
    """A GIF of 43 bytes that declares a screen and a frame far beyond what it holds."""
    gif = bytearray(encoded(Pillow.new("L", (1, 1)), "GIF"))
    side = (20_000).to_bytes(2, "little")
    gif[6:10] = side + side
    descriptor = gif.index(b"\x2c\0\0\0\0\1\0\1\0")
    gif[descriptor + 5 : descriptor + 9] = side + side
    return bytes(gif)


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


def test_the_first_of_two_broken_images_is_reported(stock: StockCaller) -> None:
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
        lambda: [extraction("features.0")], INVALID, "InvalidRequestError", ("at least one image",)
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
        ("'c'", "must have index 1", "got 2"),
    ),
    "image number twice": Bad(
        lambda: [extraction("features.0"), image(0, "a", GOOD), image(0, "b", GOOD)],
        INVALID,
        "InvalidRequestError",
        ("'b'", "must have index 1", "got 0"),
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
        ("must have a `source`",),
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
def test_a_bad_request_is_refused_with_the_valid_choices(stock: StockCaller, case: str) -> None:
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
