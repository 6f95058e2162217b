"""Features of all modules as one file of any format, which appears when it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import metadata_path
from ..formats import Column, find_format
from ..origins import Fingerprint, differences, file_sha256, provenance_fields, read_origin
from .completion import complete, facts_of, origin_for
from .job import Job
from .joining import named
from .lock import locked
from .notices import say, writing
from .place import for_file
from .task import Task

if TYPE_CHECKING:
    from ..client import Client
    from ..images.queue import ImageQueue
    from ..progress import Progress
    from ..rpc.extraction import FeatureStream

_COMPARED = ("preprocessing_changes", "token_extraction", "batch_size", "choices")
"""What has to be the same beside provenance, modules and images."""


def extract_to_file(
    client: Client,
    task: Task,
    folder: Path,
    *,
    file_format: str,
    progress: Progress | None = None,
) -> Path:
    """Write `{folder}/features.{ending}` in a format of FORMATS, and return its path.

    Rows wait in a hidden folder beside it until all are there. The same call goes on where one
    ended early, as `extract_to_folder` does; a file that is complete, of the very same extraction,
    stays, and another one is replaced. Raises InvalidRequestError where something changed since,
    or for modules that the format can't hold, and else ThingsvisionError.
    """
    form = find_format(file_format)
    path = folder / f"features.{form.suffix}"
    place = for_file(path)

    def check(columns: Mapping[str, Column]) -> None:
        form.check(named(list(columns.values())))

    job = Job(client, task, place, check=check, progress=progress)
    with locked(path.with_name(f".{path.name}.lock"), path):
        if not place.folder.exists() and _is_made(job, path):
            return path
        outcome = complete(job)
        with writing(path):
            job.joining(outcome).into(path, task.modules, form)
            shutil.rmtree(place.folder)
    return path


def _is_made(job: Job, path: Path) -> bool:
    """Whether the file is complete already; says so, or what of it differs."""
    if not (path.is_file() and metadata_path(path).is_file()):
        return False
    found = _difference(job, path, read_origin(path))
    if found is None:
        say(f"Complete already: {path} is of this very extraction; remove it to begin anew.")
        return True
    say(f"{path} is of another extraction, and is replaced when the new one is complete: {found}.")
    return False


def _difference(job: Job, path: Path, document: Mapping[str, Any]) -> str | None:
    """Return what differs first between a file and what the job would make; None: nothing."""
    queue = job.task.images()
    with closing(job.task.announcement(job.client, queue)) as announced:
        wanted = _described(job.task, announced, queue)
    found = differences.of_facts(_described_in(document), wanted)
    if not found:
        found = _image_differences(job, queue, document["images"])
    if not found and file_sha256(path) != document["file_sha256"]:
        found = ["it was changed since"]
    return found[0] if found else None


def _described(task: Task, announced: FeatureStream, queue: ImageQueue) -> dict[str, Any]:
    origin = origin_for(task, announced, queue)
    columns = named(list(task.columns(facts_of(announced)["columns"]).values()))
    arrays = {
        column.name: {"module": module, "row": [column.dtype, *column.shape]}
        for column, module in zip(columns, task.modules, strict=True)
    }
    return {**_compared(origin), "modules": arrays}


def _described_in(document: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {
        name: {"module": array["module"], "row": [array["dtype"], *array["shape"][1:]]}
        for name, array in document["modules"].items()
    }
    return {**_compared(document), "modules": arrays}


def _compared(origin: Mapping[str, Any]) -> dict[str, Any]:
    return {key: origin.get(key) for key in (*provenance_fields(), *_COMPARED)}


def _image_differences(job: Job, queue: ImageQueue, told: list[dict[str, str]]) -> list[str]:
    def heard(done: int) -> None:
        job.hear("checking", done, queue.count)

    images = iter(queue.images)
    found = differences.of_images(images, (Fingerprint(**image) for image in told), heard)
    extra = next(images, None) if not found else None
    return found if extra is None else [f"{extra.name!r} is new"]
