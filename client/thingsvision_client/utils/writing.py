"""One file of features and what lies beside it; knows neither names of files nor splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidRequestError
from ..files import replacing_path
from ..formats import FEATURES, Array, FileFormat
from ..formats.whole import layout_of, write_whole
from .data import FILE_NAMES


def as_arrays(features: Any) -> dict[str, Array]:
    """Return arrays by module; one without a name is called `features`. Memory is shared.

    Tensors of PyTorch are taken as well, from any device. Raises InvalidRequestError.
    """
    named = features if isinstance(features, Mapping) else {FEATURES: features}
    return {str(name): as_array(value, name) for name, value in named.items()}


def as_array(value: Any, name: str) -> Array:
    """Return one array. Raises InvalidRequestError for what is none."""
    try:
        # A tensor that has a gradient, or lies on a GPU, is no array before.
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidRequestError(f"{name!r} can't be read as an array: {error}") from error
    if not array.ndim:
        raise InvalidRequestError(
            f"{name!r} is {value!r}, not an array of images x more: there is nothing to save."
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
    """Write a file, replaced when complete, and beside it where its features came from.

    `by_image`: with a variable per image, if the format can, there is one array and `names` tell.
    """
    from ..origins import write_origin

    by_names = file_format.writing_by_image if by_image and len(arrays) == 1 else None
    if by_names is None or names is None:
        write_whole(path, arrays, file_format, names)
    else:
        file_format.check(layout_of(arrays).columns)
        with replacing_path(path) as unfinished:
            by_names(unfinished, next(iter(arrays.values())), names)
    write_origin(path, arrays)


def row_names(folder: Path, count: int) -> list[str] | None:
    """Return the lines of `file_names.txt` in a folder; None without it, or of other number."""
    names = listed_names(folder)
    return names if names is not None and len(names) == count else None


def listed_names(folder: Path) -> list[str] | None:
    """Return the lines of `file_names.txt` in a folder; None where there is none to read."""
    try:
        text = (folder / FILE_NAMES).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text.removesuffix("\n").split("\n")
