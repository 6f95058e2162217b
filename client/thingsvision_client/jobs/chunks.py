"""Chunks: groups rows by a number of images, and writes a file per module for each group."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..arrays import Array, RowStore
from ..errors import BadImage
from ..files import atomic_path, metadata_path
from ..formats import FEATURES, FORMATS, Column
from ..origins import Content, Fingerprint, write_contents
from .place import Place
from .record import Chunk
from .splits import find_servers, find_splits

CHUNK_BYTES = 128 * 1024 * 1024
"""Approximate size of a chunk's rows, over all modules, unless the user chooses."""

CHUNK_IMAGES = 1024
"""Most images of such a chunk, which bounds what a crash costs even if rows are short."""


def default_step(columns: Iterable[Column], batch_size: int) -> int:
    """Return the default number of batches in a chunk: at least one."""
    row_bytes = sum(column.row_bytes for column in columns)
    images = min(CHUNK_IMAGES, CHUNK_BYTES // max(row_bytes, 1))
    return max(images // batch_size, 1)


def chunk_rows(
    batches: Iterable[tuple[Sequence[int], dict[str, Array]]],
    columns: Mapping[str, Column],
    image_count: int,
) -> Iterator[dict[str, Array]]:
    """Yield the rows of all modules, of `image_count` images at a time; the last may be fewer.

    `batches` are rows with their places, counted from 0. Places without a row count as images: a
    chunk may have fewer rows than images, or none. Only one chunk is in memory at a time if the
    caller drops the chunks before it.
    """
    stores: dict[str, RowStore] = {}
    stop = image_count
    for places, rows in batches:
        taken = 0
        while taken < len(places):
            stores = stores or _stores(columns, image_count)
            more = bisect_left(places, stop, taken) - taken
            for module, store in stores.items():
                store.append(rows[module][taken : taken + more])
            taken += more
            if taken < len(places) or places[-1] == stop - 1:
                yield _finish(stores)
                stores, stop = {}, stop + image_count
    if stores:
        yield _finish(stores)


def _stores(columns: Mapping[str, Column], row_count: int) -> dict[str, RowStore]:
    row_bytes = sum(column.row_bytes for column in columns.values())
    # A user may choose more than all images: that is not allocated in advance.
    expected = row_count if row_count * row_bytes <= CHUNK_BYTES else None
    return {
        module: RowStore(column.shape, column.dtype, expected) for module, column in columns.items()
    }


def _finish(stores: dict[str, RowStore]) -> dict[str, Array]:
    return {module: stores.pop(module).finish() for module in list(stores)}


def write_chunk(
    place: Place,
    rows: Mapping[str, Array],
    images: Sequence[Fingerprint],
    *,
    start: int,
    first_row: int,
    origin: Mapping[str, Any],
) -> Chunk:
    """Write the files of images from `start` on; they appear once those of all modules exist.

    `images` include those without a row; if none has one, there are no files. `first_row` is the
    number of rows before, `origin` is what `describe` returns. Raises OSError.
    """
    stop = start + len(images)
    paths = {module: place.chunk(module, start, stop) for module in rows}
    row_count = sum(not one.fault for one in images)
    if not row_count:
        for path in paths.values():
            path.unlink(missing_ok=True)
            metadata_path(path).unlink(missing_ok=True)
        return Chunk(start, stop, {}, 0)
    with ExitStack() as appearing:
        for module, array in rows.items():
            unfinished = appearing.enter_context(atomic_path(paths[module]))
            column = Column(FEATURES, array.shape[1:], array.dtype.name)
            opened = FORMATS[place.file_format].open_writer(unfinished, [column], len(array))
            with opened as writer:
                writer.write([array])
    for module, array in rows.items():
        content = Content(array.shape, array.dtype.name, {"module": module})
        write_metadata(
            paths[module],
            {FEATURES: content},
            images,
            start=start,
            first_row=first_row,
            origin=origin,
        )
    sizes = {module: path.stat().st_size for module, path in paths.items()}
    return Chunk(start, stop, sizes, row_count)


def write_metadata(
    path: Path,
    arrays: Mapping[str, Content],
    images: Sequence[Fingerprint],
    *,
    start: int,
    first_row: int,
    origin: Mapping[str, Any],
) -> None:
    """Write a file's metadata; the origins in `arrays` have only the module.

    The rest is as in `write_chunk`.
    """
    kept = [one.to_dict() for one in images if not one.fault]
    rows: dict[str, Any] = {"rows": [first_row, first_row + len(kept)], "images": kept}
    if start != first_row:
        rows["first_place"] = start
    if len(kept) < len(images):
        rows["skipped"] = [
            {**BadImage(place, one.name, one.fault).to_dict(), **one.to_dict()}
            for place, one in enumerate(images, start)
            if one.fault
        ]
    if splits := find_splits(images, start):
        rows["split_batches"] = [vars(one) for one in splits]
    rows["servers"] = [one.to_dict() for one in find_servers(images, start)]
    contents = {
        name: replace(array, origin={**origin, **rows, **(array.origin or {})})
        for name, array in arrays.items()
    }
    write_contents(path, contents)
