"""Every usual transform gives the very bits that its library's own steps give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from timm.data import create_transform
from torchvision import models, transforms

from thingsvision_server.sources.preprocessing.pixels import (
    NormalizedPixels,
    in_one_buffer,
    in_place,
)

TIMM = {
    "cropped": {},
    "bicubic": {"interpolation": "bicubic", "crop_pct": 0.9},
    "bordered": {"crop_mode": "border"},
    "inception": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": (3, 299, 299)},
}
PRESETS = sorted(
    {
        str(weights.transforms()): weights.transforms
        for name in models.list_models(module=models)
        for weights in models.get_model_weights(name)
    }.items()
)


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str, photos: list[Path]) -> None:
    assert_same(create_transform(**{"input_size": (3, 224, 224), **TIMM[name]}), photos)


@pytest.mark.parametrize("number", range(len(PRESETS)))
def test_torchvision(number: int, photos: list[Path]) -> None:
    assert_same(PRESETS[number][1](), photos[:4])


def test_grey_and_tiny_images_and_all_values() -> None:
    reference = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    quick = in_one_buffer(reference)
    ramp = torch.arange(256, dtype=torch.uint8).view(16, 16).numpy()
    grey = Pillow.fromarray(ramp).convert("RGB")
    for image in (grey, grey.crop((0, 0, 1, 1)), grey.transpose(Pillow.Transpose.ROTATE_90)):
        assert torch.equal(quick(image), reference(image))


def test_values_are_written_into_a_place_of_their_shape(photos: list[Path]) -> None:
    steps = [transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()]
    reference = transforms.Compose([*steps, transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))])
    write = in_place(in_one_buffer(reference))
    assert write is not None
    image = Pillow.open(photos[0]).convert("RGB")
    batch = np.full((2, 3, 32, 32), np.nan, np.float32)
    assert np.shares_memory(write(image, batch[1]).numpy(), batch)
    assert torch.equal(torch.from_numpy(batch[1]), reference(image))
    assert np.isnan(batch[0]).all()
    other = np.zeros((3, 8, 8), np.float32)
    assert torch.equal(write(image, other), reference(image))
    assert not other.any()
    assert in_place(transforms.ToTensor()) is None


@pytest.mark.parametrize(
    "reference",
    [
        transforms.Compose([]),
        transforms.Compose([transforms.ToTensor()]),
        transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5), abs]),
        transforms.ToTensor(),
    ],
)
def test_other_transforms_are_left_as_they_are(reference: object) -> None:
    assert in_one_buffer(reference) is reference  # type: ignore[arg-type]


def assert_same(reference: object, photos: list[Path]) -> None:
    quick = in_one_buffer(reference)  # type: ignore[arg-type]
    assert isinstance(quick, transforms.Compose)
    assert isinstance(quick.transforms[-1], NormalizedPixels)
    for path in photos:
        image = Pillow.open(path).convert("RGB")
        found = quick(image)
        assert torch.equal(found, reference(image))  # type: ignore[operator]
        assert found.is_contiguous()
