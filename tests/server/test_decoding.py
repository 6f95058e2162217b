"""An image becomes what Pillow and the weights' own transform make of it, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image as Pillow
from PIL import ImageFile
from timm.data import create_transform, resolve_data_config
from torchvision import models

from support.serving import open_sources
from thingsvision_server.errors import ImageError
from thingsvision_server.images import EncodedImage, ImageDecoder, ImageLimits
from thingsvision_server.inputs import IMAGE
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random

DECODER = ImageDecoder(ImageLimits(max_bytes=10_000_000, max_pixels=10_000_000))
PIXELS = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
RGB = Pillow.fromarray(PIXELS)
DEEP = Pillow.fromarray(np.linspace(0, 65535, 90 * 120).reshape(90, 120).astype(np.uint16))


def encoded(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def with_alpha() -> Pillow.Image:
    picture = RGB.convert("RGBA")
    picture.putalpha(RGB.convert("L"))
    return picture


def turned() -> Any:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # orientation: to be shown turned; `convert('RGB')` leaves it as it lies
    return exif


FILES: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded(RGB, "JPEG"),
    "JPEG progressive": lambda: encoded(RGB, "JPEG", progressive=True),
    "JPEG grey": lambda: encoded(RGB.convert("L"), "JPEG"),
    "JPEG CMYK": lambda: encoded(RGB.convert("CMYK"), "JPEG"),
    "JPEG with orientation": lambda: encoded(RGB, "JPEG", exif=turned()),
    "MPO": lambda: encoded(RGB, "MPO", save_all=True, append_images=[RGB.rotate(180)]),
    "PNG": lambda: encoded(RGB, "PNG"),
    "PNG 1 bit": lambda: encoded(RGB.convert("1"), "PNG"),
    "PNG grey": lambda: encoded(RGB.convert("L"), "PNG"),
    "PNG grey with alpha": lambda: encoded(with_alpha().convert("LA"), "PNG"),
    "PNG with alpha": lambda: encoded(with_alpha(), "PNG"),
    "PNG with palette": lambda: encoded(RGB.convert("P"), "PNG"),
    "PNG with a transparent colour": lambda: encoded(RGB.convert("P"), "PNG", transparency=3),
    "TIFF": lambda: encoded(RGB, "TIFF"),
    "TIFF deflated": lambda: encoded(RGB, "TIFF", compression="tiff_deflate"),
    "TIFF of several pages": lambda: encoded(
        RGB, "TIFF", save_all=True, append_images=[RGB.rotate(180)]
    ),
    "WebP": lambda: encoded(RGB, "WEBP"),
    "WebP lossless with alpha": lambda: encoded(with_alpha(), "WEBP", lossless=True),
    "WebP animated": lambda: encoded(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(180)]),
    "BMP": lambda: encoded(RGB, "BMP"),
    "BMP with palette": lambda: encoded(RGB.convert("P"), "BMP"),
    "DIB": lambda: encoded(RGB, "DIB"),
    "GIF": lambda: encoded(RGB, "GIF"),
    "GIF animated": lambda: encoded(RGB, "GIF", save_all=True, append_images=[RGB.rotate(180)]),
}
LOSSLESS = {"PNG", "TIFF", "TIFF deflated", "TIFF of several pages", "BMP", "DIB"}


@pytest.mark.parametrize("case", FILES)
def test_an_image_is_what_pillow_converts_to_rgb(case: str) -> None:
    content = FILES[case]()
    found = DECODER.decode(EncodedImage(0, "image", content))
    with Pillow.open(io.BytesIO(content)) as opened:
        expected = opened.convert("RGB")
    assert (found.mode, found.size) == ("RGB", (120, 90))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    if case in LOSSLESS:
        np.testing.assert_array_equal(np.asarray(found), PIXELS)


DEEP_FILES: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encoded(DEEP, "PNG"),
    "TIFF": lambda: encoded(DEEP, "TIFF"),
    "TIFF of the other byte order": lambda: encoded(
        Pillow.frombytes("I;16B", DEEP.size, np.asarray(DEEP).astype(">u2").tobytes()), "TIFF"
    ),
}


@pytest.mark.parametrize("case", DEEP_FILES)
def test_grey_of_16_bits_keeps_its_upper_8(case: str) -> None:
    found = DECODER.decode(EncodedImage(0, "deep", DEEP_FILES[case]()))
    expected = np.asarray(DEEP) // 256
    assert (expected.min(), expected.max()) == (0, 255)
    np.testing.assert_array_equal(np.asarray(found), expected[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(("kind", "words"), [("f4", "32-bit floating"), ("i4", "32-bit integers")])
def test_pixels_without_a_known_range_are_refused(kind: str, words: str) -> None:
    content = encoded(Pillow.fromarray(np.asarray(DEEP).astype(kind)), "TIFF")
    with pytest.raises(ImageError, match=rf"'wide'\) has pixels of {words}.*8 or 16 bits"):
        DECODER.decode(EncodedImage(0, "wide", content))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return open_sources(tmp_path_factory.mktemp("weights"))


TORCHVISION = [
    ("alexnet", "IMAGENET1K_V1"),
    ("resnet50", "IMAGENET1K_V2"),
    ("inception_v3", "IMAGENET1K_V1"),
    ("efficientnet_b1", "IMAGENET1K_V2"),
    ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
    ("swin_t", "IMAGENET1K_V1"),
]


@pytest.mark.parametrize(("name", "tag"), TORCHVISION)
def test_preprocessing_is_the_weights_own_of_torchvision(
    sources: Sources, photos: list[Path], name: str, tag: str
) -> None:
    key = ModelKey("torchvision", name, Pretrained(tag))
    transform = sources["torchvision"].transforms(key)[IMAGE]
    own = models.get_model_weights(name)[tag].transforms()
    for path in photos[:2]:
        decoded = DECODER.decode(EncodedImage(0, path.name, path.read_bytes()))
        with Pillow.open(path) as opened:
            assert torch.equal(transform.apply(decoded), own(opened.convert("RGB")))
    told = transform.preprocessing
    assert told.resize_pixels == tuple(own.resize_size)
    assert told.crop_pixels == tuple(own.crop_size) * 2
    assert (told.mean, told.std) == (tuple(own.mean), tuple(own.std))
    assert told.interpolation == own.interpolation.value
    assert told.description == repr(own)


def test_random_weights_take_the_preprocessing_of_the_default_ones(sources: Sources) -> None:
    source = sources["torchvision"]
    random = source.transforms(ModelKey("torchvision", "resnet50", Random(0)))[IMAGE]
    own = models.ResNet50_Weights.DEFAULT.transforms()
    assert random.preprocessing.description == repr(own)


TIMM = ["tf_efficientnet_lite0.in1k", "resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k"]
TIMM += ["mixer_b16_224.miil_in21k"]


@pytest.mark.parametrize("name", TIMM)
def test_preprocessing_is_the_weights_own_of_timm(
    sources: Sources, photos: list[Path], name: str
) -> None:
    architecture, _, tag = name.partition(".")
    key = ModelKey("timm", architecture, Pretrained(tag))
    transform = sources["timm"].transforms(key)[IMAGE]
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    own = create_transform(**config, is_training=False)
    for path in photos[:2]:
        decoded = DECODER.decode(EncodedImage(0, path.name, path.read_bytes()))
        with Pillow.open(path) as opened:
            assert torch.equal(transform.apply(decoded), own(opened.convert("RGB")))
    told = transform.preprocessing
    assert told.crop_pixels == tuple(config["input_size"][1:])
    assert (told.mean, told.std) == (tuple(config["mean"]), tuple(config["std"]))
    assert told.interpolation == config["interpolation"]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "L"), ("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "L"), ("JPEG", "RGB")],
)
def test_pillow_finds_the_pixels_of_a_large_file_allocated(
    kind: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would clear them with the interpreter's lock held."""
    file = encoded(with_alpha().resize((2_400, 1_800)).convert(mode), kind)
    expected = np.asarray(Pillow.open(io.BytesIO(file)).convert("RGB"))
    found: list[bool] = []
    prepare = ImageFile.ImageFile.load_prepare

    def watch(self: Any) -> None:
        found.append(self._im is not None)
        prepare(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", watch)
    assert np.array_equal(np.asarray(DECODER.decode(EncodedImage(0, "a", file))), expected)
    assert found == [True]
