"""Decides which axis of an HDF5 array of images is what: its attributes say so, or its shape.

What is ambiguous is refused: a wrong guess gives features of other pictures, without an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import InvalidRequestError
from .pixel_layout import CHANNEL_COUNTS, PixelLayout, fits, layout_of

_SMALLEST_SIDE = 5
"""A shorter axis is not taken for a side of pictures."""

_WORDS = {
    "N": "n b t batch image images img imgs sample samples time frame frames trial trials stimulus "
    "stimuli stim index item items picture pictures",
    "H": "h y height row rows",
    "W": "w x width col cols column columns",
    "C": "c channel channels color colour colors colours rgb rgba band bands",
}
_LETTERS = {word: letter for letter, words in _WORDS.items() for word in words.split()}

_TEXTS = (
    "layout", "axes", "axis_order", "dims", "dim_order", "dimension_order", "dimensions",
    "data_format", "_array_dimensions", "axistags",
)  # fmt: skip
"""Attributes that name the axes, in lower case: a text, a list of texts, or JSON of ilastik."""

_INTERLACED = {"INTERLACE_PIXEL": "HWC", "INTERLACE_PLANE": "CHW", "INTERLACE_LINE": "HCW"}
"""Of an image as in the HDF5 Image and Palette Specification 1.2."""

_CANDIDATES = {
    2: ("HW", "N(HWC)", "N(CHW)", "N(HW)"),
    3: ("HWC", "CHW", "CWH", "NHW", "NWH", "HWN", "WHN"),
    4: ("NHWC", "NWHC", "NCHW", "NCWH", "HWCN", "CHWN", "CWHN"),
}
"""What arrays are known to be, by their number of axes."""


def find_layout(dataset: Any, called: str, asked: str | None = None) -> PixelLayout:
    """Return the layout that a user asks for, else what attributes say, else what the shape allows.

    `called` names the dataset, for sentences. Raises InvalidRequestError if the layout does not
    fit, or several do.
    """
    shape = tuple(dataset.shape)
    try:
        if asked is not None:
            return layout_of(asked, shape)
        return next(_by_attributes(dataset), None) or _by_shape(shape, called)
    except InvalidRequestError as error:
        if called in str(error):
            raise
        raise InvalidRequestError(f"{called}: {error}") from error


# ---------------------------------------------------------------- attributes


def _by_attributes(dataset: Any) -> Iterator[PixelLayout]:
    shape = tuple(dataset.shape)
    for name, value in _axis_texts(dataset):
        if axes := _axes_of(value, len(shape)):
            yield layout_of(axes, shape, f"by its {name}")
    texts = {name: _text(dataset.attrs[name]) for name in _readable(dataset)}
    if texts.get("CLASS") == "IMAGE":
        yield _of_hdf5_image(texts, shape)
    if "MATLAB_class" in texts:
        yield _of_matlab(shape)


def _axis_texts(dataset: Any) -> Iterator[tuple[str, Any]]:
    names = {name.lower(): name for name in _readable(dataset)}
    for known in _TEXTS:
        if known in names:
            yield f"attribute {names[known]!r}", dataset.attrs[names[known]]
    # Labels of axes, and the names of scales as netCDF has them.
    labels = [axis.label or (axis[0].name if len(axis) else "") for axis in dataset.dims]
    yield "dimensions' names", [label.rpartition("/")[2] for label in labels]


def _readable(dataset: Any) -> list[str]:
    """Return the names of attributes that are texts; others have types that h5py may not know."""
    return [name for name in dataset.attrs if dataset.attrs.get_id(name).dtype.kind in "SOU"]


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return [_text(one) for one in value]


def _axes_of(value: Any, rank: int) -> str | None:
    """Return the letters for a list of axes' names, or a text; None if it is about other things."""
    text = _text(value)
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    if isinstance(text, str):
        if text.lower() in ("channels_last", "channels_first"):
            return text
        text = _split(text)
    if not isinstance(text, list) or not all(isinstance(word, str) for word in text):
        return None
    letters = "".join(_LETTERS.get(word.lower(), "?") for word in text)
    is_layout = {"H", "W"} <= set(letters) and len(set(letters)) == len(letters)
    return letters if is_layout and "?" not in letters and len(letters) == rank else None


def _split(text: str) -> list[str]:
    if text.startswith("{"):
        try:
            return [str(axis["key"]) for axis in json.loads(text)["axes"]]
        except (ValueError, KeyError, TypeError):
            return []
    words = re.findall(r"[A-Za-z]+", text)
    return list(words[0]) if len(words) == 1 else words


def _of_hdf5_image(texts: dict[str, Any], shape: Sequence[int]) -> PixelLayout:
    kind = texts.get("IMAGE_SUBCLASS", "")
    if kind == "IMAGE_INDEXED":
        raise InvalidRequestError("its numbers are those of a palette: save RGB images instead.")
    axes = "HW" if len(shape) == 2 else _INTERLACED.get(texts.get("INTERLACE_MODE", ""), "HWC")
    return layout_of(axes, shape, "by its attribute 'CLASS'")


def _of_matlab(shape: Sequence[int]) -> PixelLayout:
    """Return the layout of an array that MATLAB wrote, which reverses the order of the axes."""
    order, reason = shape[::-1], "by its attribute 'MATLAB_class'"
    found = _colour_axes(order)
    if found is None and len(order) == 4 and _are_sides(order[:2]) and order[2] in CHANNEL_COUNTS:
        found = "HWCN"
    if found is None:
        raise _ambiguous(shape, f"MATLAB wrote it as {' x '.join(map(str, order))}, and it")
    return layout_of(found[::-1], shape, reason)


# ---------------------------------------------------------------- shape


def _by_shape(shape: Sequence[int], called: str) -> PixelLayout:
    axes = _colour_axes(shape)
    if axes is None:
        raise _ambiguous(shape, called)
    return layout_of(axes, shape, "by its shape")


def _colour_axes(shape: Sequence[int]) -> str | None:
    """Return NHWC or HWC if no other layout is possible."""
    axes = {3: "HWC", 4: "NHWC"}.get(len(shape))
    if axes is None:
        return None
    is_clear = shape[-1] in CHANNEL_COUNTS and shape[0] not in CHANNEL_COUNTS
    return axes if is_clear and _are_sides(shape[-3:-1]) else None


def _are_sides(sizes: Sequence[int]) -> bool:
    return all(size >= _SMALLEST_SIDE for size in sizes)


def _ambiguous(shape: Sequence[int], what: str) -> InvalidRequestError:
    possible = [axes for axes in _CANDIDATES.get(len(shape), ()) if fits(axes, shape)]
    likely = [axes for axes in possible if _has_sides(axes, shape)] or possible
    if not likely:
        return InvalidRequestError(
            f"{what} has shape {tuple(shape)}, which no array of images has: give N x height x "
            "width x channels (1, 3 or 4)."
        )
    choices = "; ".join(f"{axes!r}: {layout_of(axes, shape)}" for axes in likely)
    return InvalidRequestError(
        f"{what} has shape {tuple(shape)}, which does not tell its axes: choose by layout= (in a "
        f"shell --layout). It may be {choices}."
    )


def _has_sides(axes: str, shape: Sequence[int]) -> bool:
    height, width, _ = layout_of(axes, shape).picture_shape
    return _are_sides((height, width))
