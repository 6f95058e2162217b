"""Writes the rows of one call to the server as chunk files, as they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ChecksumError
from ..formats import Column
from ..origins import Fingerprint
from .chunks import chunk_rows, write_chunk
from .job import Job
from .notices import ResumeHint, storage_errors
from .record import Record
from .splits import pass_sizes

if TYPE_CHECKING:
    from ..arrays import Array
    from ..rpc.feature_stream import FeatureStream


@dataclass(frozen=True)
class Run:
    """One call to the server for a job, and what its rows need to be written."""

    job: Job
    record: Record
    origin: Mapping[str, Any]
    seen: deque[Fingerprint]
    count: int | None
    first: int
    """Place of the first image of the call."""


def extract(run: Run, stream: FeatureStream) -> None:
    """Write a call's rows in chunks, and record each. Raises ThingsvisionError."""
    record, before = run.record, len(run.record.chunks)
    columns = run.job.task.columns(record.facts["columns"])
    image_count = record.chunk_image_count
    with ResumeHint(run.job.place.result, run.count, record).on_failure():
        try:
            for rows in chunk_rows(_reshape(run, stream, columns), columns, image_count):
                with storage_errors(run.job.place.result):
                    _write(run, rows, stream, image_count)
                del rows  # else the next chunk would grow beside this one
            if stream.skipped and run.count is not None:
                run.job.report("extracting", run.count, run.count)
            while run.seen:  # images without a row behind the last row
                with storage_errors(run.job.place.result):
                    _write(run, _no_rows(columns), stream, image_count)
        except ChecksumError:
            # Any row of the call may be corrupt.
            record.keep(before)
            raise
        with storage_errors(run.job.place.result):
            record.end()


def _write(run: Run, rows: Mapping[str, Array], stream: FeatureStream, image_count: int) -> None:
    start, record = run.record.done, run.record
    faults = {run.first + one.place: one.reason for one in stream.skipped}
    sizes = pass_sizes(stream, run.first)
    left = len(next(iter(rows.values())))
    images: list[Fingerprint] = []
    while run.seen and len(images) < image_count:
        fault = faults.get(start + len(images), "")
        if not (left or fault):
            break  # an image whose row has not come yet
        left -= not fault
        place = start + len(images)
        pass_size, server = sizes.get(place, 0), stream.server_at(place - run.first)
        image = replace(run.seen.popleft(), fault=fault, pass_size=pass_size, server=server)
        images.append(image)
    first_row = sum(chunk.row_count for chunk in record.chunks)
    chunk = write_chunk(
        run.job.place, rows, images, start=start, first_row=first_row, origin=run.origin
    )
    record.add(chunk, images)


def _no_rows(columns: Mapping[str, Column]) -> dict[str, Array]:
    return {name: np.empty((0, *one.shape), one.dtype) for name, one in columns.items()}


def _reshape(
    run: Run, stream: FeatureStream, columns: Mapping[str, Column]
) -> Iterator[tuple[list[int], dict[str, Array]]]:
    for names, rows in stream:
        run.job.report("extracting", run.first + stream.places[-1] + 1, run.count)
        shaped = {
            module: array.reshape(len(names), *columns[module].shape)
            for module, array in rows.items()
        }
        yield stream.places, shaped
