"""Makes a model's input from an image, a tensor or a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from .errors import ImageError, InvalidRequestError, format_shape
from .images import EncodedImage, image_error

IMAGE, TEXT = "image", "text"
"""Modalities: the kinds of input of a part of a model."""


@dataclass(frozen=True)
class InputSpec:
    """Shape and dtype of one input, without the image axis, e.g. 3 x 224 x 224 float32."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    modality: str = IMAGE


@dataclass(frozen=True)
class TensorImage:
    """One image that its user preprocessed: bytes of float32, little-endian, C order."""

    index: int
    name: str
    values: bytes


@dataclass(frozen=True)
class Text:
    """One text, in place of an image."""

    index: int
    name: str
    text: str


RequestItem = EncodedImage | TensorImage | Text


def content_bytes(item: RequestItem) -> bytes:
    """Return the content of an item as bytes; those of a file or a tensor are not copied."""
    if isinstance(item, EncodedImage):
        return item.encoded
    return item.values if isinstance(item, TensorImage) else item.text.encode()


_KINDS = {EncodedImage: "an encoded image", TensorImage: "a tensor", Text: "a text"}


@dataclass(frozen=True)
class PreprocessingStep:
    """A step of torchvision's transforms as data: the fields of the contract's message."""

    kind: str
    pixels: tuple[int, ...] = ()
    longest_pixels: int = 0
    interpolation: str = ""
    antialias: bool = False
    element_type: str = ""
    scale: bool = False
    channel_count: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fill: tuple[float, ...] = ()
    padding_mode: str = ""
    is_v2: bool = False

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> PreprocessingStep:
        """Return the step of fields as JSON has them, with lists for tuples."""
        return PreprocessingStep(**_with_tuples(fields))


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input, in the order of the fields; an empty tuple skips the step.

    With `steps` these are done, and the other fields summarize them. `owner` is whose preprocessing
    it is, if not the model's own.
    """

    resize_pixels: tuple[int, ...] = ()
    interpolation: str = ""
    antialias: bool = False
    crop_pixels: tuple[int, ...] = ()
    value_range: str = "0..1"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    description: str = ""
    channel_order: str = "RGB"
    steps: tuple[PreprocessingStep, ...] = ()
    owner: str = ""

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing of fields as JSON has them, with lists for tuples."""
        values = _with_tuples(fields)
        steps = tuple(map(PreprocessingStep.from_dict, values.pop("steps", ())))
        return Preprocessing(**values, steps=steps)


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(one) if isinstance(one, list) else one for key, one in fields.items()}


@dataclass(frozen=True)
class PreprocessingOverrides:
    """A request's changes to a model's own preprocessing; empty fields change nothing.

    An empty `crop_pixels` keeps the model's crop, `crop=False` removes it. If neither names an
    interpolation, it is bilinear.
    """

    resize_pixels: tuple[int, ...] = ()
    crop_pixels: tuple[int, ...] = ()
    crop: bool = True
    interpolation: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def apply_to(self, own: Preprocessing) -> Preprocessing:
        """Return a model's preprocessing with these changes; raise where they are impossible."""
        self._check()
        if own.steps:
            raise InvalidRequestError(
                "a preprocessing with `steps` can't be changed field by field; send another "
                "complete preprocessing",
                field="overrides",
            )
        changes: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("resize_pixels", "crop_pixels", "interpolation", "mean", "std")
            if getattr(self, name)
        }
        if len(self.crop_pixels) == 1:
            changes["crop_pixels"] = self.crop_pixels * 2
        if not self.crop:
            changes["crop_pixels"] = ()
        changed = replace(own, description="", antialias=True, **changes)
        # A network that resizes its input itself names no interpolation; now we resize before it.
        is_unnamed = changed.resize_pixels and not changed.interpolation
        return replace(changed, interpolation="bilinear") if is_unnamed else changed

    def _check(self) -> None:
        for name in ("resize_pixels", "crop_pixels"):
            sizes = getattr(self, name)
            if len(sizes) > 2 or any(not 1 <= size <= _MAX_PIXELS for size in sizes):
                sentence = (
                    f"`{name}` must be one or two numbers from 1 to {_MAX_PIXELS}, got {sizes}"
                )
                raise InvalidRequestError(sentence, field=f"overrides.{name}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (0, 3):
                sentence = f"`{name}` must have one number for each of 3 channels, got {values}"
                raise InvalidRequestError(sentence, field=f"overrides.{name}")
        if self.interpolation not in ("", *INTERPOLATIONS):
            raise InvalidRequestError(
                f"`interpolation` must be one of {', '.join(INTERPOLATIONS)}, got "
                f"{self.interpolation!r}",
                field="overrides.interpolation",
                subject=self.interpolation,
            )
        if 0 in self.std:
            raise InvalidRequestError(
                f"`std` must not contain 0, because values are divided by it; got {self.std}",
                field="overrides.std",
            )


INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")

_MAX_PIXELS = 4096
_CHANNELS = 3


@dataclass(frozen=True)
class InputTransform:
    """Makes inputs from items of one kind, and describes how.

    `apply` takes the content of an item (a Pillow RGB image, an array, or a string) and returns an
    input of `spec`; `apply_in` writes the same into an array of `spec`, if it can. `adapt` returns
    the transform for other preprocessing; None if the model's own can't be changed. `finish`
    returns what the network gets of an input as float32, if the backend still changes it.
    """

    apply: Callable[[Any], Any]
    preprocessing: Preprocessing
    spec: InputSpec
    takes: type[RequestItem] = EncodedImage
    adapt: Callable[[Preprocessing], InputTransform] | None = None
    finish: Callable[[Any], Any] | None = None
    apply_in: Callable[[Any, Any], Any] | None = None

    def check_kind(self, item: RequestItem) -> None:
        """Raise ImageError if an item is not of the kind that this transform takes."""
        if not isinstance(item, self.takes):
            taken = f"with this header, these modules take {_KINDS[self.takes]}"
            raise image_error(item, f"is {_KINDS[type(item)]}; {taken}")

    def make_input(self, item: RequestItem, content: Any, place: Any = None) -> Any:
        """Return the input made from an item's content, maybe in `place`, an array of `spec`.

        An ImageError names the item. Raises whatever else `apply` raises.
        """
        try:
            if place is None or self.apply_in is None:
                return self.apply(content)
            return self.apply_in(content, place)
        except ImageError as error:
            sentence = f"at index {item.index}, {error}"
            field = f"image[{item.index}]"
            raise ImageError(sentence, field=field, subject=error.subject) from error

    def check_shape(self, item: RequestItem, shape: tuple[int, ...]) -> None:
        """Raise ImageError if an input does not have the shape of the spec."""
        if shape != self.spec.shape:
            raise image_error(
                item,
                f"gives an input of {format_shape(shape)} instead of "
                f"{format_shape(self.spec.shape)}: {self._how_to_fit()}",
            )

    def _how_to_fit(self) -> str:
        """Return which images give inputs of the right shape, without a crop."""
        resize, shape = self.preprocessing.resize_pixels, self.spec.shape
        pixels = shape[1:] if shape[0] == _CHANNELS else shape[:2]
        if len(resize) == 1:
            why = f"the shorter side becomes {resize[0]} pixels and nothing is cropped"
            valid = "send square images"
        else:
            why, valid = "nothing is cropped", f"send images of {format_shape(pixels)} pixels"
        if self.adapt is None:
            return f"{why}; {valid}"
        return f"{why}; {valid}, or override resize_pixels with height and width, or crop_pixels"


def override(own: InputTransform, overrides: PreprocessingOverrides) -> InputTransform:
    """Return a model's transform with a request's overrides; raise if it does not allow any."""
    if own.adapt is None:
        raise InvalidRequestError(
            "the preprocessing of this model can't be overridden; send tensors that you "
            "preprocessed yourself",
            field="overrides",
        )
    return own.adapt(overrides.apply_to(own.preprocessing))


def tensor_transform(shape: tuple[int, ...]) -> InputTransform:
    """Return the transform for tensors that the user preprocessed; it only checks their size."""
    if not shape or any(size < 1 for size in shape):
        sentence = f"`tensors.shape` must consist of positive numbers, got {list(shape)}"
        raise InvalidRequestError(sentence, field="tensors.shape")
    spec = InputSpec(shape)
    description = f"none: float32 tensors of {format_shape(shape)} as they were sent"
    preprocessing = Preprocessing(value_range="", description=description, channel_order="")
    return InputTransform(lambda values: values, preprocessing, spec, takes=TensorImage)


def read_tensor(item: TensorImage, shape: tuple[int, ...]) -> Any:
    """Return the array of a tensor; raise ImageError if its size does not match the shape."""
    expected = 4 * prod(shape)
    if len(item.values) != expected:
        needed = f"a float32 tensor of {format_shape(shape)} has {expected:,}"
        raise image_error(item, f"has {len(item.values):,} bytes; {needed}")
    values = np.frombuffer(item.values, "<f4").astype(np.float32).reshape(shape)
    if not np.isfinite(values).all():
        raise image_error(item, "has values that are NaN or infinite; inputs must be finite")
    return values
