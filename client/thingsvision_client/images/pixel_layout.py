"""Which axis of an array of images is what, and how a picture is read from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import InvalidRequestError

CHANNEL_COUNTS = (1, 3, 4)
"""Grey, RGB, RGB with alpha."""

GIVEN = "as `layout` says"

_COLOURS = {1: "grey", 3: "RGB", 4: "RGBA"}
_FLAT_CHANNELS = {"HW": 1, "HWC": 3, "CHW": 3}
_PART = re.compile(r"\([A-Z]+\)|[A-Z]")
_HELP = (
    "letters for the array's axes, in the order that h5py shows them: N images, H height, W width, "
    "C channels, such as 'NHWC', 'NCHW', 'NHW' (grey) or 'HWC' (a single picture); 'N(HWC)' are "
    "square images, each flat in this order"
)


@dataclass(frozen=True)
class PixelLayout:
    """The axes of an array: `NHWC`, or `N(HWC)` if the pixels of an image are one axis.

    `reason` says what decided, for sentences.
    """

    axes: str
    shape: tuple[int, ...]
    reason: str = GIVEN

    @property
    def count(self) -> int:
        """The number of images."""
        return self.shape[self._parts.index("N")] if "N" in self._parts else 1

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        sizes = {"C": 1, **self._sizes()}
        return sizes["H"], sizes["W"], sizes["C"]

    def read(self, dataset: Any, index: int) -> Array:
        """Return an image of an array, as height x width (x channels)."""
        place = tuple(index if part == "N" else slice(None) for part in self._parts)
        values: Array = np.asarray(dataset[place])
        letters = [letter for letter in self.axes if letter in "HWC"]
        sizes = self._sizes()
        picture = values.reshape([sizes[letter] for letter in letters])
        return picture.transpose([letters.index(axis) for axis in "HWC" if axis in letters])

    def __str__(self) -> str:
        height, width, channels = self.picture_shape
        what = f"{_COLOURS[channels]} image{'' if self.count == 1 else 's'}"
        return f"{self.count:,} {what} of {height} x {width} pixels (height x width)"

    @property
    def _parts(self) -> list[str]:
        return _PART.findall(self.axes)

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for part, size in zip(self._parts, self.shape, strict=True):
            if len(part) == 1:
                sizes[part] = size
            else:
                channels = _FLAT_CHANNELS[part[1:-1]]
                side = isqrt(size // channels)
                sizes.update({"H": side, "W": side, "C": channels})
        return sizes


def layout_of(axes: str, shape: Sequence[int], reason: str = GIVEN) -> PixelLayout:
    """Return the layout of an array with these axes. Raises InvalidRequestError if they don't fit.

    `axes` may be in any letter case, or `channels_last` or `channels_first`.
    """
    wanted = _letters_of(str(axes).upper(), len(shape))
    parts = _PART.findall(wanted)
    letters = [letter for letter in wanted if letter not in "()"]
    is_known = "".join(parts) == wanted and len(set(letters)) == len(letters)
    if not is_known or not {"H", "W"} <= set(letters) <= set("NHWC") or not _has_flat(parts):
        raise InvalidRequestError(f"`layout` must be {_HELP}; got {axes!r}.")
    if fault := _misfit(parts, shape):
        raise InvalidRequestError(
            f"The layout {wanted!r}, {reason}, does not fit an array of shape {tuple(shape)}: "
            f"{fault}. A layout is {_HELP}."
        )
    return PixelLayout(wanted, tuple(shape), reason)


def fits(axes: str, shape: Sequence[int]) -> bool:
    """Tell whether an array with such a shape may have these axes."""
    return _misfit(_PART.findall(axes), shape) is None


def _letters_of(axes: str, rank: int) -> str:
    """Return the letters for the words that Keras uses."""
    if axes == "CHANNELS_LAST":
        return "HWC" if rank == 3 else "NHWC"
    if axes == "CHANNELS_FIRST":
        return "CHW" if rank == 3 else "NCHW"
    return axes


def _has_flat(parts: Sequence[str]) -> bool:
    """Whether what is flat is a picture, with nothing of it on another axis."""
    flat = [part[1:-1] for part in parts if len(part) > 1]
    return not flat or (flat[0] in _FLAT_CHANNELS and len(parts) <= 2 and "C" not in parts)


def _misfit(parts: Sequence[str], shape: Sequence[int]) -> str | None:
    if len(parts) != len(shape):
        return f"it has {len(shape)} axes"
    for part, size in zip(parts, shape, strict=True):
        if part == "C" and size not in CHANNEL_COUNTS:
            return f"images have 1, 3 or 4 channels, its C axis has {size}"
        if len(part) > 1:
            channels = _FLAT_CHANNELS[part[1:-1]]
            if channels * isqrt(size // channels) ** 2 != size:
                return f"{size} values are not {channels} x a square"
    return None
