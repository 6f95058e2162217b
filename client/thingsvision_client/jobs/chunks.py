"""Rows into files of so many images each, all modules together; knows no server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..arrays import Array, RowStore
from ..files import atomic_path
from ..formats import FEATURES, FORMATS, Column
from ..origins import Content, Fingerprint, write_contents
from .place import Place
from .record import Chunk

CHUNK_BYTES = 128 * 1024 * 1024
"""About what the rows of a chunk hold, over all modules, where the user does not choose."""

CHUNK_IMAGES = 1024
"""The most images of such a chunk: what a crash may cost, also where rows are short."""


def default_step(columns: Iterable[Column], batch_size: int) -> int:
    """Return how many batches a chunk has where the user does not choose: at least one."""
    row_bytes = sum(column.row_bytes for column in columns)
    images = min(CHUNK_IMAGES, CHUNK_BYTES // max(row_bytes, 1))
    return max(images // batch_size, 1)


def chunked(
    batches: Iterable[tuple[list[str], dict[str, Array]]],
    columns: Mapping[str, Column],
    row_count: int,
) -> Iterator[dict[str, Array]]:
    """Yield the rows of all modules, `row_count` images at a time; the last may be fewer.

    One chunk is in memory at a time, where the reader lets go of those before.
    """
    stores: dict[str, RowStore] = {}
    count = 0
    for names, rows in batches:
        taken = 0
        while taken < len(names):
            stores = stores or _stores(columns, row_count)
            more = min(row_count - count, len(names) - taken)
            for module, store in stores.items():
                store.append(rows[module][taken : taken + more])
            taken, count = taken + more, count + more
            if count == row_count:
                yield _finished(stores)
                stores, count = {}, 0
    if count:
        yield _finished(stores)


def _stores(columns: Mapping[str, Column], row_count: int) -> dict[str, RowStore]:
    row_bytes = sum(column.row_bytes for column in columns.values())
    # What a user chose may be more than all images: it is not set aside beforehand.
    expected = row_count if row_count * row_bytes <= CHUNK_BYTES else None
    return {
        module: RowStore(column.shape, column.dtype, expected) for module, column in columns.items()
    }


def _finished(stores: dict[str, RowStore]) -> dict[str, Array]:
    return {module: stores.pop(module).finish() for module in list(stores)}


def write_chunk(
    place: Place,
    rows: Mapping[str, Array],
    images: Sequence[Fingerprint],
    *,
    start: int,
    origin: Mapping[str, Any],
) -> Chunk:
    """Write the files of images from `start` on; they appear when those of all modules are there.

    `origin` is what `describe` returns. Raises OSError.
    """
    stop = start + len(images)
    paths = {module: place.chunk(module, start, stop) for module in rows}
    with ExitStack() as appearing:
        for module, array in rows.items():
            unfinished = appearing.enter_context(atomic_path(paths[module]))
            column = Column(FEATURES, array.shape[1:], array.dtype.name)
            opened = FORMATS[place.file_format].open_writer(unfinished, [column], len(array))
            with opened as writer:
                writer.write([array])
    for module, array in rows.items():
        content = Content(array.shape, array.dtype.name, {"module": module})
        write_beside(paths[module], {FEATURES: content}, images, start=start, origin=origin)
    return Chunk(start, stop, {module: path.stat().st_size for module, path in paths.items()})


def write_beside(
    path: Path,
    arrays: Mapping[str, Content],
    images: Sequence[Fingerprint],
    *,
    start: int,
    origin: Mapping[str, Any],
) -> None:
    """Write beside a file where it came from; the origins in `arrays` have only the module."""
    rows = {"rows": [start, start + len(images)], "images": [one.to_dict() for one in images]}
    contents = {
        name: replace(array, origin={**origin, **rows, **(array.origin or {})})
        for name, array in arrays.items()
    }
    write_contents(path, contents)
