"""Write a file of features, with its metadata and the names of its rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..arrays import Array, as_array
from ..errors import InvalidRequestError
from ..files import atomic_path
from ..formats import FEATURES, FileFormat
from ..formats.whole import layout_of, write_whole
from .file_names import FILE_NAMES, row_names


def as_arrays(features: Any) -> dict[str, Array]:
    """Return arrays by module, a single one as `features`, sharing memory if possible.

    Tensors of PyTorch may be on any device. Raises InvalidRequestError.
    """
    named = features if isinstance(features, Mapping) else {FEATURES: features}
    return {str(name): savable_array(value, name) for name, value in named.items()}


def savable_array(value: Any, name: str) -> Array:
    """Return a value as an array of at least one axis. Raises InvalidRequestError."""
    try:
        array = as_array(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidRequestError(f"{name!r} can't be read as an array: {error}") from error
    if not array.ndim:
        raise InvalidRequestError(
            f"{name!r} must be an array of images x any shape, got {value!r}."
        )
    return array


def write_features(
    path: Path,
    arrays: Mapping[str, Array],
    file_format: FileFormat,
    names: Sequence[str] | None,
    *,
    by_image: bool = False,
) -> None:
    """Write a file atomically, and its metadata beside it.

    `by_image`: if the format can, and there is one array and `names`, with a variable per image.
    """
    from ..origins import write_origin

    by_names = file_format.image_writer if by_image and len(arrays) == 1 else None
    if by_names is None or names is None:
        write_whole(path, arrays, file_format, names)
    else:
        file_format.check(layout_of(arrays).columns)
        with atomic_path(path) as unfinished:
            by_names(unfinished, next(iter(arrays.values())), names)
    write_origin(path, arrays)


def names_of(folder: Path, arrays: Mapping[str, Array]) -> list[str] | None:
    """Return the names of the rows of equally long arrays; None if unknown.

    They are the names of the images that the rows were extracted from, if known: another dataset
    may have written the `file_names.txt` in the folder since, which a warning says.
    """
    count = len(next(iter(arrays.values())))
    listed = row_names(folder, count)
    known = {names for array in arrays.values() if (names := _known_names(array)) is not None}
    if not known:
        return listed
    if len(known) > 1:  # modules have different images
        return None
    found = list(known.pop())
    if listed not in (None, found):
        warnings.warn(
            f"{folder / FILE_NAMES} lists other images than these features have, or another order, "
            "since a sampler chose the rows, or another dataset was created for that folder later. "
            "The features keep their own names; give each dataset its own out_path.",
            stacklevel=3,
        )
    return found


def _known_names(array: Array) -> tuple[str, ...] | None:
    from ..origins import origin_of

    origin = origin_of(array)
    # Rows of ready inputs have numbers instead of names.
    if origin is None or origin.get("input") == "tensor":
        return None
    return tuple(image["name"] for image in origin["images"])
