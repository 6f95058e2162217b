"""Makes image transforms from torchvision's own steps, and reads parameters from such steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torchvision import transforms

from ...inputs import InputSpec, InputTransform, Preprocessing
from .geometry import geometry_steps, height_and_width
from .pixels import in_one_buffer, in_place

IMAGENET = Preprocessing(
    resize_pixels=(256,),
    interpolation="bilinear",
    antialias=True,
    crop_pixels=(224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""The preprocessing that most ImageNet networks were trained with."""


def image_transform(
    apply: Callable[[Any], torch.Tensor], preprocessing: Preprocessing, shape: tuple[int, ...]
) -> InputTransform:
    """Return a network's own transform (Pillow RGB image to C x H x W), which data can override."""
    adapt = partial(transform_of, unsized=shape)
    quick, spec = in_one_buffer(apply), InputSpec(shape)
    return InputTransform(quick, preprocessing, spec, adapt=adapt, apply_in=in_place(quick))


def transform_of(preprocessing: Preprocessing, unsized: tuple[int, ...] = ()) -> InputTransform:
    """Return the transform that the data describe, with its steps in the order of the fields.

    Without a crop, a single number in `resize_pixels` works only for square images. With neither
    field, images must have the shape `unsized`.
    """
    compose = transforms.Compose(list(_steps(preprocessing)))
    size = preprocessing.crop_pixels or preprocessing.resize_pixels
    shape = (3, *height_and_width(size)) if size else unsized
    record = replace(preprocessing, description=" ".join(repr(compose).split()))
    return image_transform(compose, record, shape)


def _steps(preprocessing: Preprocessing) -> Iterator[Any]:
    yield from geometry_steps(preprocessing)
    yield transforms.ToTensor()
    if preprocessing.mean or preprocessing.std:
        mean, std = preprocessing.mean or (0.0, 0.0, 0.0), preprocessing.std or (1.0, 1.0, 1.0)
        yield transforms.Normalize(mean, std)


def read_steps(steps: Iterable[Any], description: str) -> Preprocessing:
    """Read the parameters from a transform's own steps, so that they can't disagree with it."""
    found: dict[str, Any] = {}
    for step in steps:
        for kind, read in _READERS.items():
            if isinstance(step, kind):
                found |= read(step)
    return Preprocessing(**found, description=description)


def _sizes(size: int | Iterable[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def _decimal(value: Any) -> float:
    """Return a float32 as its shortest decimal: 0.485, not 0.48500001430511475."""
    return float(str(np.float32(value)))


_READERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    transforms.Resize: lambda step: {
        "resize_pixels": _sizes(step.size),
        "interpolation": step.interpolation.value,
        "antialias": True,  # Pillow always low-pass filters when it shrinks
    },
    transforms.CenterCrop: lambda step: {"crop_pixels": _sizes(step.size)},
    transforms.Normalize: lambda step: {
        "mean": tuple(map(_decimal, step.mean)),
        "std": tuple(map(_decimal, step.std)),
    },
}
