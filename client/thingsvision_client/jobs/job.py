"""A task, the place of its files, and what is known when its chunks are complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..formats import Column
from .joining import Joining
from .place import Place
from .record import Record
from .task import Task

if TYPE_CHECKING:
    from ..client import Client
    from ..progress import Progress

Check = Callable[[Mapping[str, Column]], None]
"""Refuses columns, by module, that a file can't hold."""


@dataclass(frozen=True)
class Job:
    """A task and the place of its files. `step_size` is the number of batches in a chunk."""

    client: Client
    task: Task
    place: Place
    step_size: int | None = None
    check: Check = lambda columns: None
    progress: Progress | None = None

    def hear(self, stage: str, done: int, count: int | None) -> None:
        """Pass on how far the job is."""
        if self.progress is not None:
            self.progress(stage, done, count)

    def joining(self, outcome: Outcome) -> Joining:
        """Return what joins the chunks of the job, which are complete."""
        record = outcome.record

        def heard(done: int) -> None:
            self.hear("writing", done, record.done)

        columns = self.task.columns(record.facts["columns"])
        origin = {**outcome.origin, "image_count": record.done}
        return Joining(record, self.place, columns, origin, heard)


@dataclass(frozen=True)
class Outcome:
    """A job whose chunks are complete, the origin of its rows, and whether it was before."""

    record: Record
    origin: Mapping[str, Any]
    was_complete: bool
