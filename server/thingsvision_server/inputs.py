"""What a model takes: one image, tensor or text, made into its input; knows no framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from .errors import ImageError, InvalidRequestError, format_shape
from .images import EncodedImage, image_error

IMAGE, TEXT = "image", "text"
"""Modalities: what a part of a model sees."""


@dataclass(frozen=True)
class InputSpec:
    """One input without the image axis, e.g. 3 x 224 x 224 float32; `modality` says what of."""

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
    """One text, in the place of an image."""

    index: int
    name: str
    text: str


RequestItem = EncodedImage | TensorImage | Text

_KINDS = {EncodedImage: "an encoded image", TensorImage: "a tensor", Text: "a text"}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input, in the order of the fields; empty tuples: step left out."""

    resize_pixels: tuple[int, ...] = ()
    interpolation: str = ""
    antialias: bool = False
    crop_pixels: tuple[int, ...] = ()
    value_range: str = "0..1"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    description: str = ""
    channel_order: str = "RGB"


@dataclass(frozen=True)
class PreprocessingOverrides:
    """What a request changes of a model's own preprocessing; None and empty: nothing.

    An empty `crop_pixels` leaves the model's crop, `crop` False leaves it out. Where neither names
    an interpolation, it is bilinear.
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
        # A network that resizes for itself names no way, and now it is done before it.
        is_unnamed = changed.resize_pixels and not changed.interpolation
        return replace(changed, interpolation="bilinear") if is_unnamed else changed

    def _check(self) -> None:
        for name in ("resize_pixels", "crop_pixels"):
            sizes = getattr(self, name)
            if len(sizes) > 2 or any(not 1 <= size <= _MAX_PIXELS for size in sizes):
                sentence = f"{name} is one or two numbers from 1 to {_MAX_PIXELS}, not {sizes}"
                raise InvalidRequestError(sentence, field=f"overrides.{name}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, 3):
                sentence = f"{name} has a number for each of 3 channels, not {getattr(self, name)}"
                raise InvalidRequestError(sentence, field=f"overrides.{name}")
        if self.interpolation not in ("", *INTERPOLATIONS):
            raise InvalidRequestError(
                f"there is no interpolation {self.interpolation!r}. "
                f"Valid: {', '.join(INTERPOLATIONS)}.",
                field="overrides.interpolation",
                subject=self.interpolation,
            )
        if 0 in self.std:
            raise InvalidRequestError(
                "std has a 0; values are divided by it", field="overrides.std"
            )


INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")

_MAX_PIXELS = 4096
_CHANNELS = 3


@dataclass(frozen=True)
class InputTransform:
    """Makes inputs of one kind of items, and says how.

    `apply` takes what the kind holds (a Pillow RGB image, an array, or a string) and gives an
    input of `spec`. `adapt` gives the transform of other preprocessing; None where there is none
    but the model's own.
    """

    apply: Callable[[Any], Any]
    preprocessing: Preprocessing
    spec: InputSpec
    takes: type[RequestItem] = EncodedImage
    adapt: Callable[[Preprocessing], InputTransform] | None = None

    def check_kind(self, item: RequestItem) -> None:
        """Raise ImageError where an item is of another kind than this transform takes."""
        if not isinstance(item, self.takes):
            taken = f"these modules with this header take {_KINDS[self.takes]}"
            raise image_error(item, f"is {_KINDS[type(item)]}; {taken}")

    def make_input(self, item: RequestItem, content: Any) -> Any:
        """Return the input that an item's content becomes; an ImageError says of which item.

        Raises what else `apply` raises.
        """
        try:
            return self.apply(content)
        except ImageError as error:
            sentence = f"at index {item.index}, {error}"
            field = f"image[{item.index}]"
            raise ImageError(sentence, field=field, subject=error.subject) from error

    def check_shape(self, item: RequestItem, shape: tuple[int, ...]) -> None:
        """Raise ImageError where an input has another shape than all have to have."""
        if shape != self.spec.shape:
            raise image_error(
                item,
                f"gives an input of {format_shape(shape)} instead of "
                f"{format_shape(self.spec.shape)}: {self._how_to_fit()}",
            )

    def _how_to_fit(self) -> str:
        """Return which images give inputs of the shape where nothing is cut to it."""
        resize, shape = self.preprocessing.resize_pixels, self.spec.shape
        pixels = shape[1:] if shape[0] == _CHANNELS else shape[:2]
        if len(resize) == 1:
            why = f"the shorter side becomes {resize[0]} pixels and nothing is cut off"
            valid = "send square images"
        else:
            why, valid = "nothing is cut off", f"send images of {format_shape(pixels)} pixels"
        if self.adapt is None:
            return f"{why}; {valid}"
        return f"{why}; {valid}, or override resize_pixels with height and width, or crop_pixels"


def override(own: InputTransform, overrides: PreprocessingOverrides) -> InputTransform:
    """Return a model's transform with a request's changes; raise where it takes none."""
    if own.adapt is None:
        raise InvalidRequestError(
            "this model's preprocessing is its own and can't be changed; send tensors that you "
            "preprocessed yourself",
            field="overrides",
        )
    return own.adapt(overrides.apply_to(own.preprocessing))


def tensor_transform(shape: tuple[int, ...]) -> InputTransform:
    """Return the transform of tensors that the user preprocessed: only their length is checked."""
    if not shape or any(size < 1 for size in shape):
        sentence = f"the shape of one tensor has numbers from 1, not {list(shape)}"
        raise InvalidRequestError(sentence, field="tensors.shape")
    spec = InputSpec(shape)
    description = f"none: float32 tensors of {format_shape(shape)} as they were sent"
    preprocessing = Preprocessing(value_range="", description=description, channel_order="")
    return InputTransform(lambda values: values, preprocessing, spec, takes=TensorImage)


def read_tensor(item: TensorImage, shape: tuple[int, ...]) -> Any:
    """Return the array of a tensor; raise ImageError where its length is another."""
    expected = 4 * prod(shape)
    if len(item.values) != expected:
        needed = f"a float32 tensor of {format_shape(shape)} has {expected:,}"
        raise image_error(item, f"has {len(item.values):,} bytes; {needed}")
    return np.frombuffer(item.values, "<f4").astype(np.float32).reshape(shape)
