"""A task with the place of its files, and the outcome once its chunks are complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BadImage
from ..formats import Column
from .joining import ChunkJoiner
from .place import Place
from .record import Record
from .task import Task

if TYPE_CHECKING:
    from ..client import Client
    from ..display.progress import Progress
    from ..images.queue import ImageQueue
    from ..rpc.feature_stream import FeatureStream

Check = Callable[[Mapping[str, Column]], None]
"""Raises for columns, by module, that a file can't hold."""


@dataclass(frozen=True)
class Job:
    """A task and the place of its files. `step_size` is the number of batches in a chunk.

    `on_error` says what becomes of images that can't be used: `raise` or `skip`.
    """

    client: Client
    task: Task
    place: Place
    step_size: int | None = None
    check: Check = lambda columns: None
    progress: Progress | None = None
    on_error: str = "raise"

    def report(self, stage: str, done: int, count: int | None) -> None:
        """Report the progress of the job."""
        if self.progress is not None:
            self.progress(stage, done, count)

    def stream(self, queue: ImageQueue) -> FeatureStream:
        """Return the features of these images as they arrive; waits for memory are reported."""
        return self.task.stream(self.client, queue, self._report_wait)

    def announcement(self, queue: ImageQueue) -> FeatureStream:
        """Return a stream without images, whose header says what would compute the features."""
        return self.task.announcement(self.client, queue, self._report_wait)

    def _report_wait(self, stage: str) -> None:
        self.report(stage, 0, None)

    def joiner(self, outcome: Outcome) -> ChunkJoiner:
        """Return a joiner of the job's chunks, which are complete."""
        record = outcome.record

        def on_progress(done: int) -> None:
            self.report("writing", done, record.done)

        columns = self.task.columns(record.facts["columns"])
        origin = {**outcome.origin, "image_count": record.done}
        return ChunkJoiner(
            record, self.place, columns=columns, origin=origin, on_progress=on_progress
        )


@dataclass(frozen=True)
class Outcome:
    """The record of a complete job, the origin of its rows, and whether it was complete before."""

    record: Record
    origin: Mapping[str, Any]
    was_complete: bool

    @property
    def skipped(self) -> list[BadImage]:
        """Return the images without a row: bad ones, and those that were removed since."""
        return self.record.skipped()
