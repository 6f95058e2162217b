"""Checks, compares and runs the preprocessing that a user declared for an uploaded model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...errors import InvalidRequestError, format_shape
from ...inputs import (
    IMAGE,
    INTERPOLATIONS,
    InputSpec,
    InputTransform,
    Preprocessing,
    PreprocessingOverrides,
    PreprocessingStep,
)
from .geometry import geometry_steps, height_and_width
from .steps import StepsTransform

RANGES: Mapping[str, tuple[float, float]] = {
    "0..1": (255.0, 0.0),
    "0..255": (1.0, 0.0),
    "-1..1": (127.5, 1.0),
}
"""What each byte of a pixel is divided by, and what is then subtracted."""

CHANNEL_ORDERS = ("RGB", "BGR")

_FIELD = "preprocessing"

_USER = "user"
"""Owner of a preprocessing of which a request does not say whose it is."""


def check_declaration(declared: Preprocessing, *, is_model: bool) -> None:
    """Raise InvalidRequestError if a declaration is invalid."""
    if not is_model:
        raise InvalidRequestError(
            "preprocessing can be declared only for a complete model (.pt2, .onnx, .keras), and "
            "this file contains weights of a known model, which has its own; leave it out, and "
            "override what you need in the request",
            field=_FIELD,
        )
    if declared.steps:
        _check_steps(declared.steps)
        return
    if not declared.crop_pixels and len(declared.resize_pixels) != 2:
        raise InvalidRequestError(
            "the declared preprocessing must set the input size, which is the same for all images: "
            "give crop_pixels (CenterCrop after Resize), or resize_pixels of height and width "
            f"(Resize((80, 80))), got {_size_text(declared.resize_pixels)}",
            field=f"{_FIELD}.crop_pixels",
        )
    check_fields(declared)


def _size_text(resize_pixels: Sequence[int]) -> str:
    if not resize_pixels:
        return "neither"
    return f"resize_pixels {list(resize_pixels)}, which is the shorter side alone"


def _check_steps(steps: Sequence[PreprocessingStep]) -> None:
    StepsTransform(steps, channels_last=False).try_out()
    if not any(_sets_size(step) for step in steps):
        raise InvalidRequestError(
            "the declared preprocessing must set the input size, which is the same for all images: "
            "add a step center_crop (CenterCrop), or resize with height and width (Resize((80, "
            "80)))",
            field=f"{_FIELD}.steps",
        )


def _sets_size(step: PreprocessingStep) -> bool:
    return step.kind == "center_crop" or (step.kind == "resize" and len(step.pixels) == 2)


def check_fields(declared: Preprocessing) -> None:
    """Raise InvalidRequestError if a field has a value that can't be run."""
    _check_choice("interpolation", declared.interpolation or "bilinear", INTERPOLATIONS)
    _check_choice("value_range", declared.value_range or "0..1", RANGES)
    _check_choice("channel_order", declared.channel_order or "RGB", CHANNEL_ORDERS)
    PreprocessingOverrides(
        resize_pixels=declared.resize_pixels,
        crop_pixels=declared.crop_pixels,
        mean=declared.mean,
        std=declared.std,
    ).apply_to(declared)


def _check_choice(name: str, value: str, valid: Any) -> None:
    if value not in valid:
        sentence = f"`{name}` must be one of {', '.join(valid)}, got {value!r}"
        raise InvalidRequestError(sentence, field=f"{_FIELD}.{name}", subject=value)


def with_defaults(declared: Preprocessing) -> Preprocessing:
    """Return a declaration with defaults for the choices that it leaves open."""
    return replace(
        declared,
        interpolation=declared.interpolation or "bilinear",
        value_range=declared.value_range or "0..1",
        channel_order=declared.channel_order or "RGB",
        antialias=bool(declared.resize_pixels),  # Pillow always low-pass filters when it shrinks
        description="",
    )


def check_same_declaration(called: str, known: Preprocessing, declared: Preprocessing) -> None:
    """Raise InvalidRequestError, naming the differences, if two declarations of a file differ."""
    old, new = vars(with_defaults(known)), vars(with_defaults(declared))
    changed = [
        f"{name} {_format(old[name])}, not {_format(new[name])}"
        for name in old
        if old[name] != new[name]
    ]
    if changed:
        raise InvalidRequestError(
            f"the file {called} was already uploaded with {'; '.join(changed)}. Delete that "
            "upload first (`delete-upload`), or override the preprocessing in the request",
            field=_FIELD,
            subject=called,
        )


def _format(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def transform_of_declaration(
    declared: Preprocessing, *, channels_last: bool, unsized: tuple[int, ...] = ()
) -> InputTransform:
    """Return the transform of a declaration: its own steps, or those in the order of the fields.

    Inputs are 3 x height x width float32, or height x width x 3 with `channels_last`. A
    declaration without any size is for images of the shape `unsized`.
    """
    from torchvision import transforms

    if declared.steps:
        return _transform_of_steps(declared, channels_last=channels_last, unsized=unsized)
    preprocessing = with_defaults(declared)
    steps = transforms.Compose(list(_steps(preprocessing, channels_last=channels_last)))
    size = preprocessing.crop_pixels or preprocessing.resize_pixels
    sides = height_and_width(size or (0,))
    shape = (*sides, 3) if channels_last else (3, *sides)
    return InputTransform(
        steps,
        replace(preprocessing, description=" ".join(repr(steps).split())),
        InputSpec(shape if size or not unsized else unsized),
        adapt=partial(
            transform_of_declaration, channels_last=channels_last, unsized=unsized or shape
        ),
    )


def _transform_of_steps(
    declared: Preprocessing, *, channels_last: bool, unsized: tuple[int, ...]
) -> InputTransform:
    steps = StepsTransform(declared.steps, channels_last=channels_last)
    shape = steps.try_out()
    sets_size = any(step.kind in ("center_crop", "resize") for step in declared.steps)
    preprocessing = replace(declared, description=repr(steps))
    return InputTransform(
        steps, preprocessing, InputSpec(shape if sets_size or not unsized else unsized)
    )


def explicit_transform(given: Preprocessing, own: InputTransform) -> InputTransform:
    """Return the transform of a request's own preprocessing, for the network that `own` serves."""
    shape = own.spec.shape
    if own.spec.modality != IMAGE or len(shape) != 3:
        raise InvalidRequestError(
            f"the inputs of this model are {format_shape(shape)}, so only its own preprocessing "
            "can make them",
            field=_FIELD,
        )
    if not given.steps:
        check_fields(given)
    last = shape[-1] == 3 and shape[0] != 3
    known = given if given.owner else replace(given, owner=_USER)
    return transform_of_declaration(known, channels_last=last, unsized=shape)


def _steps(preprocessing: Preprocessing, *, channels_last: bool) -> Any:
    yield from geometry_steps(preprocessing)
    yield Scale(preprocessing)
    if channels_last:
        yield ChannelsLast()


class Scale:
    """Turns a Pillow image into 3 x height x width values of a declared range and channel order."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._settings = preprocessing
        self._divisor, self._offset = RANGES[preprocessing.value_range]

    def __repr__(self) -> str:
        own = self._settings
        moments = f", mean={own.mean}, std={own.std}" if own.mean or own.std else ""
        return f"Scale({own.value_range}, {own.channel_order}{moments})"

    def __call__(self, image: Any) -> Any:
        """Return the values of an image."""
        from torch import from_numpy

        values: Any = np.asarray(image).astype(np.float32)
        if self._settings.channel_order == "BGR":
            values = values[:, :, ::-1]
        values = values / np.float32(self._divisor) - np.float32(self._offset)
        if self._settings.mean:
            values = values - np.asarray(self._settings.mean, np.float32)
        if self._settings.std:
            values = values / np.asarray(self._settings.std, np.float32)
        return from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


class ChannelsLast:
    """Moves the channels of an input behind its height and width."""

    def __repr__(self) -> str:
        return "ChannelsLast()"

    def __call__(self, values: Any) -> Any:
        """Return the values, height x width x 3."""
        return np.ascontiguousarray(values.numpy().transpose(1, 2, 0))
