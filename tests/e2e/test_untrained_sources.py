"""What the façade does with `pretrained=False` for Keras, timm, ssl and custom, as THINGSvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import DataLoader, ImageDataset, get_extractor
from thingsvision_client.library.extractor import Extractor

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PLACES = 1e-4
"""Part of the largest value: the places of neighbours are float32 numbers of pixels."""

CAFFE = np.array([103.939, 116.779, 123.68])


def resized(values: np.ndarray, side: int) -> np.ndarray:
    """Return pixels resized as TensorFlow does: four neighbours of each centre, no smoothing."""
    for axis in (0, 1):
        count = values.shape[axis]
        places = np.clip((np.arange(side) + 0.5) * count / side - 0.5, 0, count - 1)
        first = np.floor(places).astype(int)
        part = (places - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        second = np.minimum(first + 1, count - 1)
        values = values.take(first, axis) * (1 - part) + values.take(second, axis) * part
    return values


KERAS = {
    "MobileNet": lambda pixels: resized(pixels / 127.5 - 1, 224),
    "VGG16": lambda pixels: resized(pixels[..., ::-1] - CAFFE, 224),
    "InceptionV3": lambda pixels: resized(pixels / 127.5 - 1, 299),
    "DenseNet121": lambda pixels: resized((pixels / 255 - MEAN) / STD, 224),
    "EfficientNetB0": lambda pixels: resized(pixels, 224),
    "NASNetMobile": lambda pixels: (resized(pixels / 255, 224) - MEAN) / STD,
}
"""Networks and the inputs that the library makes for them."""


def made(name: str, source: str, server: TestServer) -> Extractor:
    return get_extractor(name, False, None, source, server=server.address)


@pytest.mark.parametrize("name", KERAS)
def test_keras_resizes_tensors_without_smoothing(
    name: str, server: TestServer, photos: list[Path]
) -> None:
    transforms = made(name, "keras", server).get_transformations()
    for photo in photos[:2]:
        pixels = np.asarray(Image.open(photo).convert("RGB"), np.float64)
        assert_close(transforms(photo), KERAS[name](pixels), PLACES)


def test_features_of_keras_are_of_these_inputs(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    extractor = made("MobileNet", "keras", server)
    names = [photo.name for photo in photos[:2]]
    dataset = ImageDataset(photos[0].parent, tmp_path, "tf", file_names=names)
    features = extractor.extract_features(DataLoader(dataset, 2, "tf"), "conv_pw_3_relu")
    pictures = [np.asarray(Image.open(photo).convert("RGB"), np.float64) for photo in photos[:2]]
    inputs = np.stack([KERAS["MobileNet"](pixels) for pixels in pictures]).astype(np.float32)
    assert_close(features, extractor.extract_features([inputs], "conv_pw_3_relu"))


def test_keras_without_a_family_follows_the_crop_alone(
    server: TestServer, photos: list[Path]
) -> None:
    extractor = made("NASNetMobile", "keras", server)
    pixels = np.asarray(Image.open(photos[0]).convert("RGB"), np.float64)
    for has_crop in (True, False):
        transforms = extractor.get_transformations(300, 96, apply_center_crop=has_crop)
        assert_close(transforms(photos[0]), (resized(pixels / 255, 96) - MEAN) / STD, PLACES)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("timm", "vit_tiny_patch16_224"),
        ("keras", "MobileNet"),
        ("custom", "clip/ViT-B-32"),
        ("custom", "DreamSim/clip_vitb32"),
    ],
)
def test_arguments_that_the_library_ignores_give_a_warning(
    source: str, name: str, server: TestServer
) -> None:
    extractor = made(name, source, server)
    with pytest.warns(UserWarning, match=f"{name} keeps its own preprocessing") as caught:
        transforms = extractor.get_transformations(resize_dim=99, crop_dim=96)
    assert caught[0].filename == __file__
    assert transforms == extractor.get_transformations()


@pytest.mark.parametrize(
    ("source", "name"),
    [("ssl", "dino-vit-small-p16"), ("custom", "cornet-s"), ("custom", "Alexnet_ecoset")],
)
def test_others_follow_the_arguments(source: str, name: str, server: TestServer) -> None:
    extractor = made(name, source, server)
    own = extractor.client.preprocessing(f"{source}/{name}")
    assert own is not None
    assert (own.resize_pixels, own.crop_pixels, own.interpolation) == (
        (256,),
        (224, 224),
        "bilinear",
    )
    np.testing.assert_allclose(own.mean, MEAN)
    assert "resize=64, crop=48" in repr(extractor.get_transformations(64, 48))
