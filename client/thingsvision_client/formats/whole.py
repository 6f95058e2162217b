"""Arrays that are in memory into files, a part at a time; knows no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..arrays import Array
from ..errors import InvalidRequestError
from ..files import atomic_path
from .base import Column, FileFormat, Layout, Writer

_PART_BYTES = 16 * 1024 * 1024


def layout_of(arrays: Mapping[str, Array], names: Sequence[str] | None = None) -> Layout:
    """Return the layout of arrays of images x ... by name. Raises InvalidRequestError."""
    counts = {name: _count(name, array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise InvalidRequestError(
            f"The arrays of one file have the same number of images, not {counts}."
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
    """Write arrays of the same number of images to a file, which is replaced when complete.

    `names` of the rows go in where the format has a place for them. Raises InvalidRequestError.
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
    """Write all rows, a part at a time: what must be copied is a part only."""
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
        raise InvalidRequestError(f"{name!r} is a single value, not an array of images x ....")
    return len(array)
