"""Revises complete chunks: adds the rows of repaired images, and drops those of removed images.

A repaired image is run in the batch that it would have been in; all other rows stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array
from ..errors import REMOVED
from ..files import metadata_path
from ..formats import FEATURES, FORMATS
from ..images.image import SentImage
from ..images.queue import ImageQueue
from ..origins import Content, Fingerprint, record_fingerprints
from .changes import Changes
from .chunks import write_chunk, write_metadata
from .job import Job
from .notices import storage_errors
from .record import Chunk, Record
from .splits import pass_sizes
from .splitting import split_rows

if TYPE_CHECKING:
    from ..rpc.feature_stream import FeatureStream

_UNFINISHED = -1
"""The length of files that are being replaced: after a crash they are extracted again."""


@dataclass(frozen=True)
class NewRow:
    """The row of an image, by module, or its fault; and its fingerprint."""

    image: Fingerprint
    rows: Mapping[str, Array]


def revise(
    job: Job,
    record: Record,
    queue: ImageQueue,
    changes: Changes,
    *,
    origin: Mapping[str, Any],
) -> None:
    """Change the chunks of these images. Raises ThingsvisionError, and what is complete stays."""
    if record.whole is not None:
        with storage_errors(job.place.result):
            _split_whole(job, record, origin)
    fresh = _extract(job, record, queue, changes) if changes.repaired else {}
    with storage_errors(job.place.result):
        first = _revise_chunks(job, record, fresh=fresh, changes=changes, origin=origin)
        for number in range(first, len(record.chunks)):
            _rewrite_metadata(job, record, number, origin)


def _extract(job: Job, record: Record, queue: ImageQueue, changes: Changes) -> dict[int, NewRow]:
    """Run the batches of repaired images, and return the rows of these by place."""
    size = record.batch_size
    batches = {place // size for place in changes.repaired}
    places = [place for place in range(queue.count or record.done) if place // size in batches]
    wanted = set(changes.repaired)
    again = list(_at(queue, set(places)))
    cores = record.cores.of_places(places)
    parts = replace(queue, images=again, count=len(again), cores=cores, here_count=0)
    sent, seen = record_fingerprints(parts)
    columns = job.task.columns(record.facts["columns"])
    found: dict[int, NewRow] = {}
    rows_at: dict[int, dict[str, Array]] = {}
    with closing(job.stream(sent)) as stream:
        for done, (_, rows) in enumerate(stream):
            job.report("repairing", done + 1, len(batches))
            for at, place in enumerate(stream.places):
                if places[place] in wanted:
                    rows_at[place] = {
                        module: array[at].reshape(columns[module].shape).copy()
                        for module, array in rows.items()
                    }
        faults, sizes = _faults(stream), pass_sizes(stream)
    for at, image in enumerate(seen):
        if places[at] in wanted:
            fault, pass_size = faults.get(at, ""), sizes.get(at, 0)
            server = stream.server_at(at)
            image = replace(image, fault=fault, pass_size=pass_size, server=server)
            found[places[at]] = NewRow(image, rows_at.get(at, {}))
    return found


def _faults(stream: FeatureStream) -> dict[int, str]:
    return {one.place: one.reason for one in stream.skipped}


def _at(queue: ImageQueue, places: set[int]) -> Iterator[SentImage]:
    images = islice(queue.images, max(places) + 1)
    return (image for place, image in enumerate(images) if place in places)


def _revise_chunks(
    job: Job,
    record: Record,
    fresh: Mapping[int, NewRow],
    changes: Changes,
    origin: Mapping[str, Any],
) -> int:
    """Rewrite the chunks that change, and return the number of the first one."""
    changed = {*fresh, *changes.gone}
    images, first, first_row = iter(list(record.images())), len(record.chunks), 0
    for number, chunk in enumerate(list(record.chunks)):
        mine = list(islice(images, chunk.stop - chunk.start))
        if changed.intersection(range(chunk.start, chunk.stop)):
            first = min(first, number)
            chunk = _revise_chunk(
                job, record, number, images=mine, fresh=fresh, gone=set(changes.gone),
                first_row=first_row, origin=origin,
            )  # fmt: skip
        first_row += chunk.row_count
    return first


def _revise_chunk(
    job: Job,
    record: Record,
    number: int,
    *,
    images: list[Fingerprint],
    fresh: Mapping[int, NewRow],
    gone: set[int],
    first_row: int,
    origin: Mapping[str, Any],
) -> Chunk:
    chunk, columns = record.chunks[number], job.task.columns(record.facts["columns"])
    before = [place for place, image in enumerate(images, chunk.start) if not image.fault]
    row_of = {place: row for row, place in enumerate(before)}
    now = [
        fresh[place].image if place in fresh
        else replace(image, fault=REMOVED) if place in gone
        else image
        for place, image in enumerate(images, chunk.start)
    ]  # fmt: skip
    kept = [place for place, image in enumerate(now, chunk.start) if not image.fault]
    rows: dict[str, Array] = {}
    for module, column in columns.items():
        old = _read(job, module, chunk) if chunk.row_count else ()
        rows[module] = np.empty((len(kept), *column.shape), column.dtype)
        for row, place in enumerate(kept):
            is_fresh = place in fresh
            rows[module][row] = fresh[place].rows[module] if is_fresh else old[row_of[place]]
    unfinished = replace(chunk, sizes=dict.fromkeys(columns, _UNFINISHED))
    record.replace(number, unfinished, images)
    written = write_chunk(
        job.place, rows, now, start=chunk.start, first_row=first_row, origin=origin
    )
    record.replace(number, written, now)
    return written


def _read(job: Job, module: str, chunk: Chunk) -> Array:
    path = job.place.chunk(module, chunk.start, chunk.stop)
    return FORMATS[job.place.file_format].read(path)[FEATURES]


def _rewrite_metadata(job: Job, record: Record, number: int, origin: Mapping[str, Any]) -> None:
    """Write a chunk's metadata again, since chunks before it have other rows."""
    chunk = record.chunks[number]
    if not chunk.row_count:
        return
    first_row = sum(one.row_count for one in record.chunks[:number])
    images = list(islice(record.images(), chunk.start, chunk.stop))
    for module, column in job.task.columns(record.facts["columns"]).items():
        content = Content((chunk.row_count, *column.shape), column.dtype, {"module": module})
        write_metadata(
            job.place.chunk(module, chunk.start, chunk.stop), {FEATURES: content}, images,
            start=chunk.start, first_row=first_row, origin=origin,
        )  # fmt: skip


def _split_whole(job: Job, record: Record, origin: Mapping[str, Any]) -> None:
    """Write the chunks of a file of all rows again, and remove the file."""
    form = FORMATS[job.place.file_format]
    paths = {module: job.place.whole(module) for module in job.task.modules}
    rows = {module: form.read(path)[FEATURES] for module, path in paths.items()}
    stops = [chunk.stop for chunk in record.chunks]
    images = list(record.images())
    parts = split_rows(job.place, rows, images, stops=stops, origin=origin)
    record.chunks[:] = [chunk for chunk, _ in parts]
    record.forget_whole()
    for path in paths.values():
        path.unlink(missing_ok=True)
        metadata_path(path).unlink(missing_ok=True)
