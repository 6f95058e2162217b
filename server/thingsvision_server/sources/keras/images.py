"""Makes images into inputs of Keras networks, and tells how as data; knows no network by name.

An image becomes pixels here; a family's own `preprocess_input` is applied to the whole batch by
TensorFlow's process, so that it is Keras' own to the bit.
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
    """Return a network's own preprocessing as data, as probed."""
    height, width, _ = architecture.input_shape
    unit_scale = set(_rounded(architecture.scale)) == {1.0}
    per_unit = 1.0 if unit_scale else 255.0
    std = [1 / (scale * per_unit) for scale in architecture.scale]
    mean = [-offset * one for offset, one in zip(architecture.offset, std, strict=True)]
    return Preprocessing(
        resize_pixels=(height, width),
        interpolation="bilinear",
        antialias=True,  # Pillow always low-pass filters when it shrinks
        value_range="0..255" if unit_scale else "0..1",
        mean=_rounded(mean) if any(mean) else (),
        std=() if unit_scale else _rounded(std),
        description=f"keras.utils.load_img to {height} x {width}, {_family(architecture)}",
        channel_order="RGB" if architecture.source == _RGB else "BGR",
    )


def _family(architecture: KerasArchitecture) -> str:
    family = architecture.family
    return f"{family}.preprocess_input" if family else "pixels of 0 to 255"


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    """Return values as they were written before they were probed in float32."""
    return tuple(float(f"{value:.6g}") for value in values)


def keras_transform(architecture: KerasArchitecture) -> InputTransform:
    """Return a network's own transform: a Pillow RGB image to height x width x 3 pixels, uint8."""
    own = preprocessing_of(architecture)
    height, width, _ = architecture.input_shape
    apply = partial(_resized, height=height, width=width)
    spec = InputSpec(architecture.input_shape, "uint8")
    return InputTransform(apply, own, spec, adapt=partial(_adapted, architecture))


def _resized(picture: Any, *, height: int, width: int) -> Any:
    if picture.size != (width, height):
        picture = picture.resize((width, height), PillowImage.Resampling.BILINEAR)
    return np.array(picture)


def _adapted(architecture: KerasArchitecture, changed: Preprocessing) -> InputTransform:
    """Return the transform of changed preprocessing.

    Another mean or std takes the place of the family's own preprocessing: values are scaled to
    0..1 then, of RGB. Without one, the family's own stays.
    """
    own = preprocessing_of(architecture)
    adapt = partial(_adapted, architecture)
    if (changed.mean, changed.std) == (own.mean, own.std):
        data = replace(changed, description=f"{_words(changed)}, {_family(architecture)}")
        spec, cut = InputSpec(_shape(changed), "uint8"), _cut(changed)
        return InputTransform(lambda picture: np.array(cut(picture)), data, spec, adapt=adapt)
    return _of_unit_values(_scaled(own, changed), adapt)


def declared_transform(preprocessing: Preprocessing) -> InputTransform:
    """Return the transform that does what the data say, of RGB values scaled to 0..1."""
    return _of_unit_values(preprocessing, declared_transform)


def _of_unit_values(
    data: Preprocessing, adapt: Callable[[Preprocessing], InputTransform]
) -> InputTransform:
    cut = _cut(data)
    normalise = partial(_normalised, mean=data.mean or (0,) * 3, std=data.std or (1,) * 3)
    told = replace(data, description=f"{_words(data)}, scaled to 0..1, (x - mean) / std")
    spec = InputSpec(_shape(data))
    return InputTransform(lambda image: normalise(np.array(cut(image))), told, spec, adapt=adapt)


def _shape(data: Preprocessing) -> tuple[int, ...]:
    return (*height_and_width(data.crop_pixels or data.resize_pixels), 3)


def _scaled(own: Preprocessing, changed: Preprocessing) -> Preprocessing:
    """Return preprocessing of values of 0..1; what it leaves of the own must be of such values."""
    of_unit = own.value_range == "0..1" and own.channel_order == "RGB"
    mean = changed.mean if of_unit or changed.mean != own.mean else ()
    std = changed.std if of_unit or changed.std != own.std else ()
    return replace(changed, mean=mean, std=std, value_range="0..1", channel_order="RGB")


def _words(changed: Preprocessing) -> str:
    crop = f", centre crop {list(changed.crop_pixels)}" if changed.crop_pixels else ""
    return f"resized to {list(changed.resize_pixels)} {changed.interpolation}{crop}"


def _normalised(pixels: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled - np.array(mean, np.float32)) / np.array(std, np.float32)


def _cut(changed: Preprocessing) -> Callable[[Any], Any]:
    """Return what resizes and crops a Pillow image."""
    from torchvision import transforms

    compose: Callable[[Any], Any] = transforms.Compose(list(geometry_steps(changed)))
    return compose
