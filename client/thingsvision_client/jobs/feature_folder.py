"""Features as files of so many images each in a folder, or one of each module; never in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from ..formats import FORMATS
from .completion import complete
from .job import Job, Outcome
from .lock import is_held, locked
from .notices import ratio, say, writing
from .place import Place, in_folder, neighbours
from .record import Record, read_record
from .task import Task

if TYPE_CHECKING:
    from ..client import Client
    from ..progress import Progress

OUTPUT_FORMATS = {"ndarray": "npy", "tensor": "pt"}
"""How files are written, by the output type that they are for."""

_PATIENCE_S = 60.0
"""How long to wait for other jobs to say which modules are theirs, which takes them no time."""


@dataclass(frozen=True)
class FolderOptions:
    """How features lie in a folder.

    `step_size` is the number of batches in a file; None: so many that the files of all modules
    together have about `CHUNK_BYTES`, and no more than `CHUNK_IMAGES` images. `suffix` tells jobs
    in one folder apart. `output_type` is `ndarray` (.npy) or `tensor` (.pt). `in_one_file` joins
    the files of each module when all are there.
    """

    step_size: int | None = None
    suffix: str = ""
    output_type: str = "ndarray"
    in_one_file: bool = False

    def __post_init__(self) -> None:
        if self.step_size is not None and self.step_size < 1:
            raise InvalidRequestError(f"step_size is at least 1 batch, not {self.step_size}.")
        if self.output_type not in OUTPUT_FORMATS:
            valid = ", ".join(OUTPUT_FORMATS)
            raise InvalidRequestError(f"output_type is one of {valid}, not {self.output_type!r}.")


def extract_to_folder(
    client: Client,
    task: Task,
    folder: Path,
    *,
    options: FolderOptions | None = None,
    progress: Progress | None = None,
) -> None:
    """Write `{folder}/{module}/features{suffix}_{start}-{end}.npy` (or .pt) as rows arrive.

    A file has images [start, end), images x shape, float32; beside it lies where they came from.
    With `in_one_file` it is `features{suffix}.npy` in the end. The same call goes on where one
    ended early, at a multiple of the batch size, so that bits are those of one that did not; it
    says so on stderr. Raises InvalidRequestError where something changed since, and else
    ThingsvisionError; what is complete stays.
    """
    chosen = options or FolderOptions()
    place = in_folder(folder, chosen.suffix, OUTPUT_FORMATS[chosen.output_type], task.modules)
    with locked(_lock_of(place.record), folder), _claimed(place, task):
        job = Job(client, task, place, chosen.step_size, progress=progress)
        outcome = complete(job)
        if chosen.in_one_file and outcome.record.whole is None:
            with writing(folder):
                _join(job, outcome)
        elif outcome.was_complete:
            say(f"Complete already: {ratio(outcome.record.done)} in {folder}.")


def _join(job: Job, outcome: Outcome) -> None:
    record, place = outcome.record, job.place
    joining = job.joining(outcome)
    paths = {module: place.whole(module) for module in job.task.modules}
    for module, path in paths.items():
        joining.into(path, [module], FORMATS[place.file_format])
    record.join({module: path.stat().st_size for module, path in paths.items()})
    joining.remove_chunks()


@contextmanager
def _claimed(place: Place, task: Task) -> Iterator[None]:
    """Say which modules are those of a job before the server is asked, which may take a while.

    Of two jobs that start at the same time and share a module, one is refused.
    """
    with locked(place.claims, place.result, patience_s=_PATIENCE_S), writing(place.result):
        _refuse_shared_modules(place, task)
        if read_record(place.record) is None:
            Record(place.record, {"modules": list(task.modules)}, {}, None).save()
    try:
        yield
    finally:
        own = read_record(place.record)
        if own is not None and not own.facts:  # it never began: nothing of it is there
            place.record.unlink()


def _refuse_shared_modules(place: Place, task: Task) -> None:
    """Refuse what would mix with the files of a job of other modules."""
    for path in neighbours(place):
        other = read_record(path)
        modules = other.settings["modules"] if other is not None and _counts(other) else []
        if shared := [module for module in task.modules if module in modules]:
            raise InvalidRequestError(
                f"{place.result} has {', '.join(map(repr, shared))} from an extraction of "
                f"{', '.join(map(repr, modules))} at once: ask for these, or {place.anew}."
            )


def _counts(record: Record) -> bool:
    """Whether a job began, or is about to; one that was killed before has nothing there."""
    return bool(record.facts) or is_held(_lock_of(record.path))


def _lock_of(record: Path) -> Path:
    return record.with_suffix(".lock")
