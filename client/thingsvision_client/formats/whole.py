"""Arrays in memory, written to files part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..arrays import Array
from ..errors import InvalidRequestError
from ..files import atomic_path
from .base import Column, FileFormat, Layout, Writer

_PART_BYTES = 16 * 1024 * 1024


def layout_of(arrays: Mapping[str, Array], names: Sequence[str] | None = None) -> Layout:
    """Return the layout of arrays of images x any shape, by name. Raises InvalidRequestError."""
    counts = {name: _count(name, array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise InvalidRequestError(
            f"The arrays of one file must have the same number of images, got {counts}."
            if counts
            else "There is nothing to save: no array."
        )
    columns = [Column(name, one.shape[1:], one.dtype.name) for name, one in arrays.items()]
    return Layout(
        tuple(columns), next(iter(counts.values())), None if names is None else tuple(names)
    )


def write_whole(
    path: Path,
    arrays: Mapping[str, Array],
    file_format: FileFormat,
    names: Sequence[str] | None = None,
) -> None:
    """Write arrays of the same number of images to a file, atomically.

    `names` of the rows are stored if the format can. Raises InvalidRequestError.
    """
    layout = layout_of(arrays, names)
    file_format.check(layout.columns)
    opening = file_format.open_writer
    with (
        atomic_path(path) as unfinished,
        opening(unfinished, layout.columns, layout.count, names=names) as writer,
    ):
        write_in_parts(arrays, layout, writer)


def write_in_parts(arrays: Mapping[str, Array], layout: Layout, writer: Writer) -> None:
    """Write all rows, one part at a time, so that only a part is copied."""
    step = max(1, _PART_BYTES * layout.count // layout.byte_count)
    for start in range(0, layout.count, step):
        writer.write(
            [
                arrays[column.name][start : start + step].astype(column.dtype, copy=False)
                for column in layout.columns
            ]
        )


def _count(name: str, array: Array) -> int:
    if not array.ndim:
        raise InvalidRequestError(
            f"{name!r} must be an array of images x any shape, got a single value."
        )
    return len(array)
