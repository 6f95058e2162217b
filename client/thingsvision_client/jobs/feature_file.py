"""Features of all modules as one file of any format, which appears when it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display.progress import say
from ..errors import BadImage, InvalidRequestError
from ..formats import FORMATS, Column, FileFormat, find_format
from ..images.inspection import inspect_headers
from ..origins import Fingerprint, differences, file_sha256, provenance_fields, read_origin
from ..values.cores import Cores
from ..values.servers import ServerFacts
from .alignment import with_removed
from .bad_images import refuse_bad_images, report_skipped
from .changes import Changes, find_changes
from .completion import facts_of, origin_for, resume_or_start
from .job import Job
from .joining import file_columns
from .lock import hold_lock
from .notices import storage_errors
from .place import for_file
from .splits import with_servers
from .splitting import begin_from_file
from .task import Task

if TYPE_CHECKING:
    from ..client import Client
    from ..display.progress import Progress
    from ..images.queue import ImageQueue
    from ..rpc.feature_stream import FeatureStream

_COMPARED = ("preprocessing_changes", "token_extraction", "batch_size", "choices")
"""What has to be the same besides provenance, modules and images."""


def extract_to_file(
    client: Client,
    task: Task,
    folder: Path,
    *,
    file_format: str,
    on_error: str = "raise",
    overwrite: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write `{folder}/features.{ending}` in a format of FORMATS, and return its path.

    Rows wait in a hidden folder beside it until they are complete. The same call resumes one that
    ended early, as `extract_to_folder` does. A complete file of the same extraction stays, but for
    the rows of images that were repaired or removed since; any other is replaced, but without
    `overwrite` it is an error. Images that can't be used are as in
    `extract_to_folder`; with an error for them, the other rows wait until it is mended. Raises
    InvalidRequestError also if something has changed since, or for modules that the format can't
    hold, and ThingsvisionError otherwise.
    """
    form = find_format(file_format)
    path = _path_in(folder, form)
    return write_file(
        client, task, path, form, on_error=on_error, overwrite=overwrite, progress=progress
    )


def write_file(
    client: Client,
    task: Task,
    path: Path,
    form: FileFormat,
    *,
    on_error: str = "raise",
    overwrite: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write the file `path` in a format, as `extract_to_file` does, and return the path."""
    place = for_file(path)

    def check(columns: Mapping[str, Column]) -> None:
        form.check(file_columns(list(columns.values())))

    job = Job(client, task, place, check=check, progress=progress, on_error=on_error)
    with hold_lock(path.with_name(f".{path.name}.lock"), path):
        if not place.folder.exists() and _is_made(job, path, form, overwrite=overwrite):
            refuse_bad_images(read_skipped(read_origin(path)), on_error, path)
            return path
        outcome = resume_or_start(job)
        skipped = outcome.skipped
        refuse_bad_images(skipped, on_error, place.folder, outcome.record.done)
        report_skipped(skipped, path.parent, outcome.record.done - len(skipped))
        with storage_errors(path):
            job.joiner(outcome).into(path, task.modules, form)
            shutil.rmtree(place.folder)
    return path


def read_skipped(document: Mapping[str, Any]) -> list[BadImage]:
    """Return the images without a row that a file's metadata name."""
    return [BadImage.from_dict(one) for one in document.get("skipped", [])]


def _path_in(folder: Path, form: FileFormat) -> Path:
    """Return the path of the file: of an unfinished job of an earlier version, with its ending."""
    paths = form.paths(folder, "features")
    return next((path for path in paths if for_file(path).folder.is_dir()), paths[0])


def _is_made(job: Job, path: Path, form: FileFormat, *, overwrite: bool) -> bool:
    """Whether the file is complete already; prints that, or how it differs.

    A file of the same extraction, but for images that were repaired or removed since, is split into
    the chunks of a job, which goes on. Raises InvalidRequestError if another file may not be
    replaced.
    """
    if not path.is_file():
        return False
    found: str | None = "nothing is known of it"
    if (document := _known(path)) is not None:
        found, changes = _compare(job, path, document)
        if found is None and changes and changes.gone and _is_elsewhere(job.task, document):
            # Rows of a larger folder that happens to have these images, too, are not given up.
            found = f"it has more images, of {document['image_root']}"
        if found is None and changes:
            if _begin_again(job, path, form, document):
                return False
            found = "images were repaired or removed"
    if found is None:
        say(f"Already complete: {path} is from this same extraction; remove it to start again.")
        return True
    if not overwrite:
        raise InvalidRequestError(
            f"{path} is from another extraction ({found}): choose another folder, or replace it "
            "with overwrite=True (in a shell --overwrite)."
        )
    say(f"{path} is from another extraction, and is replaced when this one is complete: {found}.")
    return False


def _is_elsewhere(task: Task, document: Mapping[str, Any]) -> bool:
    """Tell whether the images are in another folder than those of a file were."""
    told = document.get("image_root")
    return told is not None and task.root is not None and str(task.root.absolute()) != told


def _known(path: Path) -> dict[str, Any] | None:
    """Return the metadata of a file; None if there are none, or they can't be read."""
    try:
        return read_origin(path)
    except InvalidRequestError:
        return None


def _compare(
    job: Job, path: Path, document: Mapping[str, Any]
) -> tuple[str | None, Changes | None]:
    """Return the first difference between a file and what the job would write, or None.

    Images that were repaired or removed since are not a difference, and are returned with it.
    """
    queue = job.task.images()
    with closing(job.announcement(queue)) as announced:
        wanted = _describe_task(job.task, announced, queue)
    found, changes = differences.of_facts(_describe_document(document), wanted), None
    if not found:
        found, changes = _compare_images(job, queue, document)
    if not found and file_sha256(path) != document["file_sha256"]:
        found = ["it was changed since"]
    return (found[0] if found else None), changes


def _begin_again(job: Job, path: Path, form: FileFormat, document: Mapping[str, Any]) -> bool:
    """Begin a job with the rows of a complete file; False if its rows can't be read back."""
    if FORMATS.get(form.name) is not form:  # such as of MATLAB, with axes in another order
        return False
    computed_by = ServerFacts.of_record(document)
    cores = Cores.from_facts(document)
    queue = replace(job.task.images(), cores=cores, computed_by=computed_by)
    with closing(job.announcement(queue)) as announced:
        facts, origin = facts_of(announced), origin_for(job.task, announced, queue)
        facts["server"] = computed_by.to_dict()
    with storage_errors(path):
        return begin_from_file(
            job, path, form, images=_all_images(document), facts=facts, origin=origin
        )


def _describe_task(task: Task, announced: FeatureStream, queue: ImageQueue) -> dict[str, Any]:
    origin = origin_for(task, announced, queue)
    columns = file_columns(list(task.columns(facts_of(announced)["columns"]).values()))
    arrays = {
        column.name: {"module": module, "row": [column.dtype, *column.shape]}
        for column, module in zip(columns, task.modules, strict=True)
    }
    return {**_comparable(origin), "modules": arrays}


def _describe_document(document: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {
        name: {"module": array["module"], "row": [array["dtype"], *array["shape"][1:]]}
        for name, array in document["modules"].items()
    }
    return {**_comparable(document), "modules": arrays}


def _comparable(origin: Mapping[str, Any]) -> dict[str, Any]:
    compared = (*provenance_fields(), *_COMPARED)
    return {key: origin[key] for key in compared if key in origin}


def _compare_images(
    job: Job, queue: ImageQueue, document: Mapping[str, Any]
) -> tuple[list[str], Changes | None]:
    def on_progress(done: int) -> None:
        job.report("checking", done, queue.count)

    told = _all_images(document)
    names = [one.name for one in told]
    aligned = with_removed(queue, job.task.images, lambda: told, names)
    if aligned is None:
        return differences.of_names(names, queue.names()), None
    queue, _ = inspect_headers(aligned[0])
    images = iter(queue.images)
    changes, found = find_changes(images, told, aligned[1], on_progress)
    extra = next(images, None) if not found else None
    if extra is not None:
        found = [f"{extra.name!r} is new"]
    return found, changes


def _all_images(document: Mapping[str, Any]) -> list[Fingerprint]:
    """Return the images of a file's rows, with those that were skipped among them."""
    found = [Fingerprint(**image) for image in document["images"]]
    for one in document.get("skipped", []):
        found.insert(one["place"], Fingerprint(one["name"], one["sha256"], fault=one["reason"]))
    for split in document.get("split_batches") or ():
        first = split["first_index"]
        for place in range(first, min(len(found), first + split["image_count"])):
            found[place] = replace(found[place], pass_size=split["pass_size"])
    return list(with_servers(found, document.get("servers") or ()))
