"""Features as chunk files in a folder, or one file per module, written as rows arrive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..calls.arguments import as_text, as_whole, choose
from ..display.progress import say
from ..errors import BadImage, InvalidRequestError
from ..formats import FORMATS
from .bad_images import refuse_bad_images, report_skipped
from .completion import resume_or_start
from .job import Job, Outcome
from .lock import hold_lock, is_held
from .notices import ratio, storage_errors
from .place import Place, in_folder, neighbours
from .record import Record, read_record
from .task import Task

if TYPE_CHECKING:
    from ..client import Client
    from ..display.progress import Progress

OUTPUT_FORMATS = {"ndarray": "npy", "tensor": "pt"}
"""File formats by output type."""

_PATIENCE_S = 60.0
"""How long to wait while other jobs claim their modules, which is quick."""


@dataclass(frozen=True)
class FolderOptions:
    """How features lie in a folder.

    `step_size` is the number of batches in a file, or of images where the server chooses the
    batches; by default the files of all modules together have about `CHUNK_BYTES`, and at most
    `CHUNK_IMAGES` images. `suffix` distinguishes jobs in one folder. `output_type` is `ndarray`
    (.npy) or `tensor` (.pt). `in_one_file` joins the files of each module at the end.
    """

    step_size: int | None = None
    suffix: str = ""
    output_type: str = "ndarray"
    in_one_file: bool = False

    def __post_init__(self) -> None:
        if self.step_size is not None:
            step_size = as_whole("step_size", self.step_size)
            if step_size < 1:
                raise InvalidRequestError(f"`step_size` must be at least 1 batch, got {step_size}.")
            object.__setattr__(self, "step_size", step_size)
        object.__setattr__(self, "suffix", as_text("file_name_suffix", self.suffix))
        choose("output_type", self.output_type, OUTPUT_FORMATS)


def extract_to_folder(
    client: Client,
    task: Task,
    folder: Path,
    *,
    options: FolderOptions | None = None,
    on_error: str = "raise",
    progress: Progress | None = None,
) -> list[BadImage]:
    """Write `{folder}/{module}/features{suffix}_{start}-{end}.npy` (or .pt) as rows arrive.

    A file has images [start, end), images x shape, float32; its metadata lies beside it. With
    `in_one_file` the result is `features{suffix}.npy`. The same call resumes one that ended early,
    at a multiple of the batch size, so that the result is bit-identical to an uninterrupted one;
    it says so on stderr. Images that can't be used, or were removed since the first call, have no
    row; they are returned, and with `on_error='skip'` written to `skipped.txt`. Raises
    BadImagesError for them otherwise, InvalidRequestError if something has changed since, and
    ThingsvisionError otherwise; what is complete stays.
    """
    chosen = options or FolderOptions()
    place = in_folder(folder, chosen.suffix, OUTPUT_FORMATS[chosen.output_type], task.modules)
    with hold_lock(_lock_of(place.record), folder), _claim_modules(place, task):
        job = Job(client, task, place, chosen.step_size, progress=progress, on_error=on_error)
        outcome = resume_or_start(job)
        skipped = outcome.skipped
        refuse_bad_images(skipped, on_error, folder, outcome.record.done)
        report_skipped(skipped, folder, outcome.record.done - len(skipped))
        if chosen.in_one_file and outcome.record.whole is None:
            with storage_errors(folder):
                _join(job, outcome)
        elif outcome.was_complete:
            say(f"Already complete: {ratio(outcome.record.done)} in {folder}.")
    return skipped


def _join(job: Job, outcome: Outcome) -> None:
    record, place = outcome.record, job.place
    joiner = job.joiner(outcome)
    paths = {module: place.whole(module) for module in job.task.modules}
    for module, path in paths.items():
        joiner.into(path, [module], FORMATS[place.file_format])
    record.join({module: path.stat().st_size for module, path in paths.items()})
    joiner.remove_chunks()


@contextmanager
def _claim_modules(place: Place, task: Task) -> Iterator[None]:
    """Claim a job's modules before the first call to the server, which may take a while.

    Of two jobs that start at the same time and share a module, one is refused.
    """
    with (
        hold_lock(place.claims, place.result, patience_s=_PATIENCE_S),
        storage_errors(place.result),
    ):
        _refuse_shared_modules(place, task)
        if read_record(place.record) is None:
            Record(place.record, {"modules": list(task.modules)}, {}, None).save()
    try:
        yield
    finally:
        own = read_record(place.record)
        if own is not None and not own.facts:  # it never began: it has no files
            place.record.unlink()


def _refuse_shared_modules(place: Place, task: Task) -> None:
    """Refuse modules whose files would mix with another job's."""
    for path in neighbours(place):
        other = read_record(path)
        modules = other.settings["modules"] if other is not None and _counts(other) else []
        if shared := [module for module in task.modules if module in modules]:
            raise InvalidRequestError(
                f"{place.result} has {', '.join(map(repr, shared))} from an extraction of "
                f"{', '.join(map(repr, modules))} together: request these together, "
                f"or {place.anew}."
            )


def _counts(record: Record) -> bool:
    """Whether a job has begun, or is about to; a job killed before that has no files."""
    return bool(record.facts) or is_held(_lock_of(record.path))


def _lock_of(record: Path) -> Path:
    return record.with_suffix(".lock")
