"""Splits a file of all rows into the chunks of its job, so that some of them can change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..calls.memory import memory
from ..formats import FileFormat
from ..origins import Fingerprint
from .chunks import default_step, write_chunk
from .job import Job
from .joining import file_columns
from .place import Place
from .record import Chunk, Record, batch_size_of


def split_rows(
    place: Place,
    rows: Mapping[str, Array],
    images: Sequence[Fingerprint],
    *,
    stops: Sequence[int],
    origin: Mapping[str, Any],
) -> Iterator[tuple[Chunk, list[Fingerprint]]]:
    """Write the rows of each module as chunks that end at the places `stops`, and yield each.

    `images` are those of all places; an image with a fault has no row.
    """
    left, start, first_row = iter(images), 0, 0
    for stop in stops:
        mine = list(islice(left, stop - start))
        last_row = first_row + sum(not one.fault for one in mine)
        part = {module: array[first_row:last_row] for module, array in rows.items()}
        yield (
            write_chunk(place, part, mine, start=start, first_row=first_row, origin=origin),
            mine,
        )
        start, first_row = stop, last_row


def begin_from_file(
    job: Job,
    path: Path,
    form: FileFormat,
    *,
    images: Sequence[Fingerprint],
    facts: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> bool:
    """Begin a job with the rows of its complete file, which stays; False if that can't be.

    The rows must fit into memory. A process that is killed meanwhile leaves a job of fewer chunks.
    """
    columns = job.task.columns(facts["columns"])
    row_count = sum(not one.fault for one in images)
    size = row_count * sum(column.row_bytes for column in columns.values())
    if size > memory().free_bytes:
        return False
    arrays = form.read(path)
    rows: dict[str, Array] = {}
    for module, named in zip(columns, file_columns(list(columns.values())), strict=True):
        array = arrays.get(named.name)
        if array is None or array.shape != (row_count, *named.shape):
            return False
        rows[module] = array.astype(named.dtype, copy=False)  # text has no types
    batch_size = batch_size_of(facts)
    step_size = default_step(columns.values(), batch_size)
    batch = step_size * batch_size
    record = Record(
        job.place.record,
        {**job.task.settings(), "file_format": job.place.file_format, "step_size": step_size},
        dict(facts),
        [one.name for one in images],
    )
    record.save()
    stops = [*range(batch, len(images), batch), len(images)]
    for chunk, mine in split_rows(job.place, rows, images, stops=stops, origin=origin):
        record.add(chunk, mine)
    record.end()
    return True
