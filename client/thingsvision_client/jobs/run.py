"""Writes the rows of one call to the server as chunk files, as they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ChecksumError
from ..formats import Column
from ..origins import Fingerprint
from .chunks import chunk_rows, write_chunk
from .job import Job
from .notices import ResumeHint, storage_errors
from .record import Record

if TYPE_CHECKING:
    from ..arrays import Array
    from ..rpc.extraction import FeatureStream


@dataclass(frozen=True)
class Run:
    """One call to the server for a job, and what its rows need to be written."""

    job: Job
    record: Record
    origin: Mapping[str, Any]
    seen: deque[Fingerprint]
    count: int | None


def extract(run: Run, stream: FeatureStream) -> None:
    """Write a call's rows in chunks, and record each. Raises ThingsvisionError."""
    record, before = run.record, len(run.record.chunks)
    columns = run.job.task.columns(record.facts["columns"])
    row_count = record.settings["step_size"] * stream.batch_size
    with ResumeHint(run.job.place.result, run.count, record).on_failure():
        try:
            for rows in chunk_rows(_reshape(run, stream, columns), columns, row_count):
                with storage_errors(run.job.place.result):
                    _write(run, rows)
                del rows  # else the next chunk would grow beside this one
        except ChecksumError:
            # Any row of the call may be corrupt.
            record.keep(before)
            raise
        with storage_errors(run.job.place.result):
            record.end()


def _write(run: Run, rows: Mapping[str, Array]) -> None:
    images = [run.seen.popleft() for _ in next(iter(rows.values()))]
    start = run.record.done
    chunk = write_chunk(run.job.place, rows, images, start=start, origin=run.origin)
    run.record.add(chunk, images)


def _reshape(
    run: Run, stream: FeatureStream, columns: Mapping[str, Column]
) -> Iterator[tuple[list[str], dict[str, Array]]]:
    done = run.record.done
    for names, rows in stream:
        done += len(names)
        run.job.report("extracting", done, run.count)
        shaped = {
            module: array.reshape(len(names), *columns[module].shape)
            for module, array in rows.items()
        }
        yield names, shaped
