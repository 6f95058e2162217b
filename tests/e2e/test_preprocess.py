"""Inputs made by the server are those of the library, to the last bit, whoever's transforms ask."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from support.serving import TestServer
from support.stock_calls import StockCaller, spec
from thingsvision_client import (
    Client,
    DataLoader,
    ImageDataset,
    PreprocessingOverrides,
    get_extractor,
)
from thingsvision_client.errors import ImageError, InvalidRequestError
from thingsvision_client.library.extractor import Extractor
from thingsvision_client.utils.transforms import as_transforms
from thingsvision_proto.v1 import thingsvision_pb2 as pb

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.3"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
END = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
V2_END = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
MODES = InterpolationMode


@pytest.fixture(scope="module")
def extractor(server: TestServer) -> Extractor:
    return get_extractor("squeezenet1_1", False, None, "torchvision", server=server.address)


@pytest.fixture(scope="module")
def other(server: TestServer) -> Extractor:
    """A model with a preprocessing of another kind: bicubic, other sizes and moments."""
    return get_extractor("vit_tiny_patch16_224", False, None, "timm", server=server.address)


def opened(photos: list[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in photos]


def dataset(photos: list[Path], out: Path, given: Any) -> ImageDataset:
    names = [path.name for path in photos]
    return ImageDataset(photos[0].parent, out, "pt", file_names=names, transforms=given)


def test_the_models_own_inputs_give_the_features_of_the_files(
    client: Client, photos: list[Path]
) -> None:
    found = client.preprocess(MODEL, photos)
    own = models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    expected = np.stack([own(image).numpy() for image in opened(photos)])
    np.testing.assert_array_equal(found.inputs, expected)
    assert found.inputs.dtype == np.float32
    assert found.images == [str(path) for path in photos]
    assert "resize_size=[256]" in found.preprocessing.description
    files = client.extract(MODEL, photos, MODULE, batch_size=4).features[MODULE]
    again = client.extract(MODEL, found.inputs, MODULE, batch_size=4).features[MODULE]
    np.testing.assert_array_equal(again, files)


COMPOSES: dict[str, Any] = {
    "classic": [transforms.Resize(256), transforms.CenterCrop(224), *END],
    "bicubic": [transforms.Resize(232, MODES.BICUBIC), transforms.CenterCrop(224), *END],
    "box": [transforms.Resize((230, 250), MODES.BOX), transforms.CenterCrop(224), *END],
    "hamming": [transforms.Resize((224, 224), MODES.HAMMING), *END],
    "lanczos": [transforms.Resize((224, 224), MODES.LANCZOS), *END],
    "nearest-exact": [transforms.Resize((224, 224), MODES.NEAREST_EXACT), *END],
    "tensors": [transforms.ToTensor(), transforms.Resize((224, 224)), END[1]],
    "no antialias": [transforms.ToTensor(), transforms.Resize((200, 210), antialias=False), END[1]],
    "crop first": [transforms.CenterCrop(300), transforms.Resize(224), *END],
    "crop beyond": [transforms.Resize(200), transforms.CenterCrop(224), *END],
    "grey": [transforms.Grayscale(3), transforms.Resize(256), transforms.CenterCrop(224), *END],
    "grey tensors": [transforms.Resize((224, 224)), END[0], transforms.Grayscale(3)],
    "pad": [transforms.Resize((200, 210)), transforms.Pad(12, fill=(255, 0, 10)), *END],
    "reflect": [transforms.Resize((200, 210)), transforms.Pad((7, 5), padding_mode="reflect"),
                *END],
    "convert": [transforms.Resize((99, 99)), transforms.PILToTensor(),
                transforms.ConvertImageDtype(torch.float32), END[1]],
    "v2": [v2.ToImage(), v2.Resize(256), v2.CenterCrop(224), *V2_END],
    "v2 bytes": [v2.ToImage(), v2.ToDtype(torch.uint8, scale=True),
                 v2.Resize((224, 224), MODES.BICUBIC), *V2_END],
    "v2 of Pillow": [v2.Resize(256), v2.CenterCrop(224), v2.ToImage(), *V2_END],
    "v2 to 255": [v2.Resize((99, 99)), v2.ToImage(), v2.ToDtype(torch.float32),
                  v2.Normalize([123.0, 117.0, 104.0], [1.0, 1.0, 1.0])],
    "v2 grey": [v2.ToImage(), v2.RGB(), v2.Grayscale(3), v2.Resize((99, 99)), *V2_END],
    "v2 types": [v2.ToImage(), v2.Resize((99, 99)), v2.ToDtype({"others": torch.float32}, True)],
    "and back": [END[0], transforms.ToPILImage(), transforms.Resize((99, 99)), *END],
    "longest": [transforms.Resize(200, max_size=230), transforms.CenterCrop(224), *END],
    "one mean": [transforms.Resize((99, 99)), END[0], transforms.Normalize((0.5,), (0.5,))],
}  # fmt: skip


@pytest.mark.parametrize("kind", COMPOSES)
def test_a_users_compose_is_what_torchvision_computes(
    client: Client, photos: list[Path], kind: str
) -> None:
    compose = (v2 if kind.startswith("v2") else transforms).Compose(COMPOSES[kind])
    found = client.preprocess(MODEL, photos, as_transforms(compose).for_model(MODEL))
    expected = [np.asarray(compose(image)) for image in opened(photos)]
    if kind in ("tensors", "no antialias"):
        # Resized floats differ in their last bits with the number of threads at work.
        np.testing.assert_allclose(found.inputs, np.stack(expected), rtol=0, atol=5e-5)
    else:
        np.testing.assert_array_equal(found.inputs, np.stack(expected))
    assert found.preprocessing.owner == "user"


def forward(inputs: Any) -> np.ndarray:
    torch.manual_seed(0)
    network: nn.Module = models.squeezenet1_1(weights=None)
    with torch.no_grad():
        rows: np.ndarray = network.eval().features[:4](torch.as_tensor(inputs)).numpy()
    return rows


def test_a_compose_of_a_dataset_gives_the_librarys_features(
    extractor: Extractor, photos: list[Path], tmp_path: Path
) -> None:
    compose = transforms.Compose([END[0], transforms.Resize((160, 200)), END[1]])
    batches = DataLoader(dataset(photos, tmp_path, compose), len(photos), "pt")
    features = extractor.extract_features(batches, MODULE)
    expected = forward(np.stack([compose(image).numpy() for image in opened(photos)]))
    np.testing.assert_allclose(features, expected, atol=1e-5 * abs(expected).max())
    folder = tmp_path / "rows"
    extractor.extract_features(batches, MODULE, output_dir=folder)
    extractor.extract_features(batches, MODULE, output_dir=folder)  # resumes: nothing is left


def test_transforms_of_another_model_take_the_place_of_the_own(
    extractor: Extractor, other: Extractor, photos: list[Path], tmp_path: Path
) -> None:
    theirs = other.get_transformations()
    batches = DataLoader(dataset(photos, tmp_path, theirs), len(photos), "pt")
    features = extractor.extract_features(batches, MODULE)
    inputs = np.stack([np.asarray(theirs(image)) for image in opened(photos)])
    assert inputs.max() <= 1, "its moments are 0.5, unlike ImageNet's"
    np.testing.assert_array_equal(features, extractor.extract_features([inputs], MODULE))
    asked = theirs.for_model(extractor.model)
    found = extractor.client.extract(extractor.model, photos, MODULE, preprocessing=asked)
    assert found.provenance.preprocessing.owner == str(other.model)
    assert found.provenance.preprocessing.interpolation == "bicubic"
    own = dataset(photos, tmp_path, other.get_transformations())
    assert own.transforms.for_model(other.model) is None, "these are its own"
    sizes = PreprocessingOverrides(resize=99, crop=96)
    parts = {one.name: getattr(theirs, one.name) for one in fields(theirs)}
    changed = type(theirs)(**parts | {"overrides": sizes}).for_model(extractor.model)
    assert changed is not None
    assert "resize=99" in getattr(changed, "owner", "")


def test_transforms_are_called_with_images_in_memory(
    extractor: Extractor, photos: list[Path]
) -> None:
    call = extractor.get_transformations()
    own = models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    for path, image in zip(photos, opened(photos), strict=True):
        found = call(image)
        assert (type(found), found.dtype) == (torch.Tensor, torch.float32)
        np.testing.assert_array_equal(found, own(image))
        np.testing.assert_array_equal(call(np.asarray(image)), found)
        np.testing.assert_array_equal(call(path), found)
    small = extractor.get_transformations(resize_dim=64, crop_dim=48)
    assert small(opened(photos)[0]).shape == (3, 48, 48)
    ready = np.zeros((3, 224, 224), np.float32)
    with pytest.raises(TypeError, match=r"ndarray of [a-z0-9]+, .* is not an image: give the path"):
        call(ready)
    with pytest.raises(InvalidRequestError, match="must be images, got arrays that are"):
        extractor.client.preprocess(extractor.model, [("x", ready)])


def test_a_pipeline_of_torchvision_gives_the_features_of_the_files(
    extractor: Extractor, photos: list[Path], tmp_path: Path
) -> None:
    for number, image in enumerate(opened(photos)):
        (tmp_path / f"images/{number % 2}").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / f"images/{number % 2}/{number}.png")
    call = extractor.get_transformations()
    loader = torch.utils.data.DataLoader(ImageFolder(str(tmp_path / "images"), call), batch_size=2)
    files = ImageDataset(tmp_path / "images", tmp_path, "pt", transforms=call)
    expected = extractor.extract_features(DataLoader(files, 2, "pt"), MODULE)
    np.testing.assert_array_equal(extractor.extract_features(loader, MODULE), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_a_picture_of_any_mode_is_what_its_file_is(
    client: Client, photos: list[Path], tmp_path: Path, mode: str
) -> None:
    image = opened(photos)[0]
    if mode == "I;16":
        wide = np.asarray(image.convert("L")).astype(np.uint16) * 256 + 7
        image = Image.fromarray(wide)
    else:
        image = image.convert(mode)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "YCbCr") else "image.png")
    image.save(path)
    found = client.preprocess(MODEL, [image, path]).inputs
    np.testing.assert_array_equal(found[0], found[1])


def test_images_in_memory_are_images_everywhere(
    client: Client, extractor: Extractor, photos: list[Path]
) -> None:
    images = opened(photos)[:3]
    expected = client.extract(MODEL, photos[:3], MODULE, batch_size=3).features[MODULE]
    arrays = [np.asarray(image) for image in images]
    named = [(path.name, image) for path, image in zip(photos, images, strict=False)]
    for given in (images, arrays, named):
        found = client.extract(MODEL, given, MODULE, batch_size=3)
        np.testing.assert_array_equal(found.features[MODULE], expected)
    assert found.images == [path.name for path in photos[:3]]
    for batch in (images, tuple(arrays), (images, [0, 1, 2])):
        np.testing.assert_array_equal(extractor.extract_batch(batch, MODULE), expected)
    assert client.extract(MODEL, images[0], MODULE).images == ["0"]
    square = np.stack([np.asarray(image.resize((250, 250))) for image in images])
    one_by_one = client.extract(MODEL, list(square), MODULE, batch_size=3).features[MODULE]
    tensors = torch.from_numpy(square).permute(0, 3, 1, 2)
    for batch in (square, torch.from_numpy(square), tensors, (square, np.zeros(3))):
        np.testing.assert_array_equal(extractor.extract_batch(batch, MODULE), one_by_one)
    rdm = client.rdm(MODEL, square, MODULE).rdms[MODULE]
    assert rdm.shape == (3, 3)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (np.zeros((2, 3, 224, 224), np.uint8), r"uint8 of shape \(3, 224, 224\), but images must"),
        (np.zeros((2, 224, 224, 3), np.int64), "an array of int64, but an image must be uint8"),
        (torch.zeros(2, 3, 5, 3, dtype=torch.uint8), r"uint8 of shape \(3, 5, 3\)"),
        (Image.new("I", (9, 9)), "32-bit integers, whose range Pillow does not define"),
    ],
)
def test_what_may_be_either_is_refused(client: Client, wrong: Any, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        client.extract(MODEL, wrong, MODULE)


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ({"kind": "rotate"}, r"step 0 must be one of resize, center_crop, .* got 'rotate'"),
        ({"kind": "resize", "pixels": [5000]}, "step 0 must have at most 4096 pixels, got 5000"),
        ({"kind": "resize", "pixels": [0]}, r"step 0 \(resize\) is not valid: sizes must be at"),
        ({"kind": "resize", "pixels": [9], "interpolation": "best"}, "'best' is not a valid"),
        ({"kind": "normalize", "mean": [0], "std": [1]}, r"step 0 can't be done here \(Normalize"),
        ({"kind": "center_crop", "pixels": [9, 9]}, "must end with a float32 tensor, got Image"),
        ({"kind": "convert_dtype", "element_type": "float64"}, r"\(convert_dtype\) is not valid"),
    ],
)
def test_steps_of_any_client_are_checked(
    stock: StockCaller, step: dict[str, Any], sentence: str
) -> None:
    given = pb.Preprocessing(steps=[pb.PreprocessingStep(**step)])
    header = pb.PreprocessHeader(model=spec(), preprocessing=given)
    refusal = stock.refusal("Preprocess", [pb.PreprocessRequest(header=header)])
    assert refusal.reason == "InvalidRequestError"
    assert re.search(sentence, refusal.sentence), refusal.sentence


def test_only_a_header_says_how_images_become_inputs(stock: StockCaller) -> None:
    header = pb.PreprocessHeader(model=spec())
    (reply,) = stock.call("Preprocess", [pb.PreprocessRequest(header=header)])
    assert list(reply.header.shape) == [3, 224, 224]
    assert list(reply.header.preprocessing.crop_pixels) == [224, 224]
