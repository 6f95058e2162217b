"""Images in memory, of Pillow or as uint8 arrays, on their way to a server: as PNG files."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..arrays import Array, as_array
from ..errors import InvalidRequestError
from .image import ImageContent, SentImage
from .png import png_of

_CHANNELS = (1, 3, 4)
"""Grey, RGB, RGB with alpha."""

_WIDE_MODES = {"F": "32-bit floating point", "I": "32-bit integers"}


def is_picture(value: Any) -> bool:
    """Whether a value is an image in memory: of Pillow, or uint8 of at most 3 axes."""
    return _is_pillow(value) or (_is_bytes(value) and len(value.shape) in (2, 3))


def are_pictures(value: Any) -> bool:
    """Whether a value is a batch of images in memory: uint8 of 4 axes."""
    return _is_bytes(value) and len(value.shape) == 4


def _is_pillow(value: Any) -> bool:
    kinds = ((kind.__module__, kind.__name__) for kind in type(value).__mro__)
    return ("PIL.Image", "Image") in kinds


def _is_bytes(value: Any) -> bool:
    return hasattr(value, "__array__") and str(value.dtype).removeprefix("torch.") == "uint8"


def picture(name: str, value: Any) -> SentImage:
    """Return an image in memory, to send. Raises ImageError if its axes are not those of images."""
    if _is_pillow(value):
        return SentImage(name, partial(_encode_pillow, value))
    pixels = _channels_last(value)
    if pixels is None:
        fault = (
            f"is uint8 of shape {tuple(value.shape)}, but images must be height x width x 3, or x "
            "1 (grey), or x 4 (with alpha): change its axes, as with np.moveaxis(array, 0, -1) if "
            "channels come first, and the server preprocesses it. If it should be a model's input, "
            "preprocess it: Client.preprocess gives inputs, of floats"
        )
        raise SentImage(name, partial(_encode, as_array(value))).error(fault)
    return SentImage(name, partial(_encode, pixels))


def _channels_last(value: Any) -> Array | None:
    """Return pixels as height x width (x channels); torch has the channels first."""
    array, is_tensor = as_array(value), hasattr(value, "detach")
    if array.ndim == 2 or array.shape[-1] in _CHANNELS:
        is_ambiguous = is_tensor and array.ndim == 3 and array.shape[0] in _CHANNELS
        return None if is_ambiguous else array
    return np.moveaxis(array, 0, -1) if is_tensor and array.shape[0] in _CHANNELS else None


def _encode(pixels: Array) -> ImageContent:
    return ImageContent(png_of(pixels))


def _encode_pillow(image: Any) -> ImageContent:
    """Return the image as RGB, converted as the server converts files."""
    if image.mode in _WIDE_MODES:
        raise InvalidRequestError(
            f"has pixels of {_WIDE_MODES[image.mode]}, whose range Pillow does not define: convert "
            "it to 8 bits per channel"
        )
    if image.mode.startswith("I;16"):
        return ImageContent(png_of((np.asarray(image) >> 8).astype(np.uint8)))
    try:
        return ImageContent(png_of(np.asarray(image.convert("RGB"))))
    except ValueError as error:
        raise InvalidRequestError(
            f"of mode {image.mode} can't be converted to RGB: {error}"
        ) from error
