"""Turns images into inputs of Keras networks, and describes how as `Preprocessing`.

Images become pixels here; TensorFlow's process then applies the family's own `preprocess_input` to
the whole batch, so that it is bit-identical to Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from ...backends.tensorflow.model import KerasArchitecture
from ...inputs import InputSpec, InputTransform, Preprocessing
from ..preprocessing.geometry import geometry_steps, height_and_width

_RGB = (0, 1, 2)


def preprocessing_of(architecture: KerasArchitecture) -> Preprocessing:
    """Return a network's own preprocessing, as probed."""
    height, width, _ = architecture.input_shape
    unit_scale = set(_round(architecture.scale)) == {1.0}
    per_unit = 1.0 if unit_scale else 255.0
    std = [1 / (scale * per_unit) for scale in architecture.scale]
    mean = [-offset * part for offset, part in zip(architecture.offset, std, strict=True)]
    return Preprocessing(
        resize_pixels=(height, width),
        interpolation="bilinear",
        antialias=True,  # Pillow always low-pass filters when it shrinks
        value_range="0..255" if unit_scale else "0..1",
        mean=_round(mean) if any(mean) else (),
        std=() if unit_scale else _round(std),
        description=f"keras.utils.load_img to {height} x {width}, {_family(architecture)}",
        channel_order="RGB" if architecture.source == _RGB else "BGR",
    )


def _family(architecture: KerasArchitecture) -> str:
    family = architecture.family
    return f"{family}.preprocess_input" if family else "pixels of 0 to 255"


def _round(values: Iterable[float]) -> tuple[float, ...]:
    """Return values probed in float32 as the decimals they were written as."""
    return tuple(float(f"{value:.6g}") for value in values)


Finish = Callable[[Any], Any]
"""The family's own preprocessing: pixels, height x width x 3, to float32."""


def keras_transform(architecture: KerasArchitecture, finish: Finish) -> InputTransform:
    """Return a network's own transform: a Pillow RGB image to height x width x 3 pixels, uint8."""
    own = preprocessing_of(architecture)
    height, width, _ = architecture.input_shape
    apply = partial(_resize, height=height, width=width)
    spec = InputSpec(architecture.input_shape, "uint8")
    adapt = partial(_adapt, architecture, finish)
    return InputTransform(apply, own, spec, adapt=adapt, finish=finish)


def _resize(picture: Any, *, height: int, width: int) -> Any:
    if picture.size != (width, height):
        picture = picture.resize((width, height), PillowImage.Resampling.BILINEAR)
    return np.array(picture)


def _adapt(
    architecture: KerasArchitecture, finish: Finish, changed: Preprocessing
) -> InputTransform:
    """Return the transform for changed preprocessing.

    A changed mean or std replaces the family's own preprocessing and applies to RGB values scaled
    to 0..1; otherwise the family's own preprocessing stays.
    """
    own = preprocessing_of(architecture)
    adapt = partial(_adapt, architecture, finish)
    if (changed.mean, changed.std) == (own.mean, own.std):
        description = f"{_describe(changed)}, {_family(architecture)}"
        preprocessing = replace(changed, description=description)
        spec, cut = InputSpec(_shape(changed), "uint8"), _resize_and_crop(changed)
        return InputTransform(
            lambda picture: np.array(cut(picture)), preprocessing, spec, adapt=adapt, finish=finish
        )
    return unit_range_transform(_to_unit_range(own, changed), adapt=adapt)


def unit_range_transform(
    preprocessing: Preprocessing,
    *,
    adapt: Callable[[Preprocessing], InputTransform] | None = None,
) -> InputTransform:
    """Return the transform that scales RGB values to 0..1 and then applies mean and std.

    `adapt` makes the transform for changed preprocessing, by default in the same way.
    """
    cut, mean, std = _resize_and_crop(preprocessing), preprocessing.mean, preprocessing.std
    normalise = partial(_normalise, mean=mean or (0,) * 3, std=std or (1,) * 3)
    description = f"{_describe(preprocessing)}, scaled to 0..1, (x - mean) / std"
    return InputTransform(
        lambda image: normalise(np.array(cut(image))),
        replace(preprocessing, description=description),
        InputSpec(_shape(preprocessing)),
        adapt=adapt or unit_range_transform,
    )


def _shape(preprocessing: Preprocessing) -> tuple[int, ...]:
    return (*height_and_width(preprocessing.crop_pixels or preprocessing.resize_pixels), 3)


def _to_unit_range(own: Preprocessing, changed: Preprocessing) -> Preprocessing:
    """Return the preprocessing for values of 0..1; drop unchanged values of any other range."""
    is_unit = own.value_range == "0..1" and own.channel_order == "RGB"
    mean = changed.mean if is_unit or changed.mean != own.mean else ()
    std = changed.std if is_unit or changed.std != own.std else ()
    return replace(changed, mean=mean, std=std, value_range="0..1", channel_order="RGB")


def _describe(changed: Preprocessing) -> str:
    crop = f", centre crop {list(changed.crop_pixels)}" if changed.crop_pixels else ""
    return f"resized to {list(changed.resize_pixels)} {changed.interpolation}{crop}"


def _normalise(pixels: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled - np.array(mean, np.float32)) / np.array(std, np.float32)


def _resize_and_crop(changed: Preprocessing) -> Callable[[Any], Any]:
    """Return a function that resizes and crops a Pillow image."""
    from torchvision import transforms

    compose: Callable[[Any], Any] = transforms.Compose(list(geometry_steps(changed)))
    return compose
