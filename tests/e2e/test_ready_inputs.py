"""Arrays that are inputs: what can't be right is refused, or warned of with its range."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from support.closeness import assert_close
from support.own_files import onnx_file
from support.own_networks import SIZE, network
from support.stock_calls import StockCaller, spec
from thingsvision_client import Client, get_extractor
from thingsvision_client.errors import InputRangeWarning, InvalidRequestError
from thingsvision_proto.v1 import thingsvision_pb2 as pb

MODEL = "torchvision/squeezenet1_1@random:0"
MODULE = "features.12"
CAFFE = "keras/ResNet50@random:0"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
LOWEST, HIGHEST = float((-MEAN / STD).min()), float(((1 - MEAN) / STD).max())


def inputs(scale: Callable[[np.ndarray], np.ndarray], photo: Path) -> np.ndarray:
    """Return a photograph as images x channels x height x width, scaled from 0..1."""
    image = Image.open(photo).convert("RGB").resize((224, 224))
    return scale(np.asarray(image, "float32")[None] / 255).transpose(0, 3, 1, 2).astype("float32")


RIGHT: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda x: (x - MEAN) / STD,
    lambda x: x,
    lambda x: 2 * x - 1,
    lambda x: (x - MEAN) / STD * 1.001,
]
WRONG: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda x: x * 255,
    lambda x: x * 255 - 128,
    lambda x: (x * 255 - MEAN) / STD,
]


@pytest.mark.parametrize("scale", RIGHT)
def test_values_that_preprocessing_gives_need_no_warning(
    client: Client, photos: list[Path], scale: Callable[[np.ndarray], np.ndarray]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.extract(MODEL, inputs(scale, photos[0]), MODULE)


@pytest.mark.parametrize("scale", WRONG)
def test_values_outside_are_warned_of_with_their_range(
    client: Client, photos: list[Path], scale: Callable[[np.ndarray], np.ndarray]
) -> None:
    array = inputs(scale, photos[0])
    words = (
        rf"from {array.min():.4g} to {array.max():.4g}, but .* gives values from "
        rf"{LOWEST:.4g} to {HIGHEST:.4g}: .*send them as images"
    )
    array = np.concatenate([array, array[:, ::-1]])
    calls: list[Callable[[], Any]] = [
        lambda: client.extract(MODEL, array, MODULE),
        lambda: client.extract(MODEL, (("a", one) for one in array), MODULE),
        lambda: list(client.stream(MODEL, array, MODULE)),
        lambda: client.rdm(MODEL, array, MODULE),
        lambda: client.fit_pca(MODEL, array, MODULE, components=1),
    ]
    for call in calls:
        with pytest.warns(InputRangeWarning, match=words) as told:
            call()
        assert len(told) == 1


def test_only_an_image_in_the_middle_is_wrong(client: Client, photos: list[Path]) -> None:
    array = np.repeat(inputs(RIGHT[0], photos[0]), 40, 0)
    array[23] *= 100
    with pytest.warns(InputRangeWarning, match="from "):
        client.extract(MODEL, array, MODULE, batch_size=4)


def test_each_models_own_preprocessing_decides(client: Client, photos: list[Path]) -> None:
    pixels = inputs(lambda x: x * 255, photos[0]).transpose(0, 2, 3, 1)
    caffe = pixels[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.extract(CAFFE, caffe, "conv1_conv")
        client.extract("keras/EfficientNetB0@random:0", pixels, "stem_conv")
    with pytest.warns(InputRangeWarning, match=r"values from -123\.7 to 151\.1"):
        client.extract(CAFFE, pixels, "conv1_conv")
    with pytest.warns(InputRangeWarning, match="values from 0 to 255"):
        client.extract("keras/EfficientNetB0@random:0", -pixels, "stem_conv")


def test_the_facade_warns_as_well(client: Client, photos: list[Path]) -> None:
    extractor = get_extractor(
        "squeezenet1_1", source="torchvision", device=None, pretrained=False, server=client.server
    )
    batch = torch.from_numpy(inputs(lambda x: x * 255, photos[0]))
    with pytest.warns(InputRangeWarning, match="to 255, but"):
        extractor.extract_features([batch], MODULE, flatten_acts=True)


def test_a_network_without_preprocessing_takes_any_values(
    client: Client, photos: list[Path], tmp_path: Path
) -> None:
    net = network(0)
    model = client.upload_model(onnx_file(net, tmp_path / "network.onnx"))
    array = np.full((2, 3, SIZE, SIZE), 1e3, "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = client.extract(model, array, "").features[""]
    with torch.no_grad():
        assert_close(found, net(torch.from_numpy(array)).numpy(), 1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(
    client: Client, stock: StockCaller, photos: list[Path], value: float
) -> None:
    array = np.repeat(inputs(RIGHT[0], photos[0]), 2, 0)
    array[1, 0, 5, 7] = value
    words = r"Image '1' has values that are NaN or infinite \(1, the first at \[0, 5, 7\]"
    for call in (client.extract, client.rdm):
        with pytest.raises(InvalidRequestError, match=words):
            call(MODEL, array, MODULE)
    header = pb.ExtractHeader(model=spec(), modules=[MODULE])
    header.tensors.shape.extend([3, 224, 224])
    image = pb.Image(index=0, name="a", tensor=array[1].tobytes())
    requests = [pb.ExtractRequest(header=header), pb.ExtractRequest(image=image)]
    refused = stock.refusal("Extract", requests)
    assert "('a') has values that are NaN or infinite" in refused.sentence


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "bool"])
def test_arrays_of_integers_are_refused_with_both_ways_out(client: Client, dtype: str) -> None:
    words = r"(uint8 of shape|array of) .*images? must be .*height x width x 3.*Client\.preprocess"
    for array in (np.ones((3, 224, 224), dtype), np.ones((2, 3, 224, 224), dtype)):
        images = array if array.ndim == 4 else [("a", array)]
        with pytest.raises(InvalidRequestError, match=words):
            client.extract(MODEL, images, MODULE)


def test_pixels_in_memory_are_images(client: Client, photos: list[Path]) -> None:
    images = [Image.open(path).convert("RGB") for path in photos[:2]]
    expected = client.extract(MODEL, photos[:2], MODULE, batch_size=2).features[MODULE]
    arrays = [np.asarray(image) for image in images]
    tensors = [torchvision.transforms.functional.pil_to_tensor(image) for image in images]
    for given in (images, arrays, tensors):
        found = client.extract(MODEL, given, MODULE, batch_size=2).features[MODULE]
        np.testing.assert_array_equal(found, expected)
