"""Write a file of features, with its metadata and the names of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..arrays import Array, as_array
from ..errors import InvalidRequestError
from ..files import atomic_path
from ..formats import FEATURES, FileFormat
from ..formats.whole import layout_of, write_whole
from ..labels import read_labelled
from .row_naming import RowNames


def as_arrays(features: Any) -> dict[str, Array]:
    """Return arrays by module, a single one as `features`, sharing memory if possible.

    Tensors of PyTorch may be on any device. Raises InvalidRequestError.
    """
    named = features if isinstance(features, Mapping) else {FEATURES: features}
    return {str(name): savable_array(value, name) for name, value in named.items()}


def savable_array(value: Any, name: str) -> Array:
    """Return a value as an array of at least one axis. Raises InvalidRequestError."""
    item = read_labelled(value)
    try:
        array = as_array(value if item is None else item.values)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{name!r}: {error}") from error
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
    names: RowNames,
    *,
    by_image: bool = False,
) -> None:
    """Write a file atomically, and its metadata beside it.

    `by_image`: if the format can, and there is one array, with a variable per image.
    """
    from ..origins import write_origin
    from ..origins.replacing import warn_of_replaced

    by_names = file_format.image_writer if by_image and len(arrays) == 1 else None
    with warn_of_replaced(path):
        if by_names is None or names.stored is None:
            write_whole(path, arrays, file_format, names.stored)
        else:
            file_format.check(layout_of(arrays).columns)
            with atomic_path(path) as unfinished:
                by_names(unfinished, next(iter(arrays.values())), names.stored)
        write_origin(path, arrays, names.known)
