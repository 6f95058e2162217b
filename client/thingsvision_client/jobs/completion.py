"""Starts or resumes a long extraction: checks what is complete, and extracts the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any

from ..calls.memory import size_text
from ..display.progress import loading, note, say
from ..errors import InvalidRequestError, bad_text
from ..images.image import SentImage
from ..images.inspection import inspect_headers
from ..images.queue import ImageQueue
from ..origins import describe, differences, recording_fingerprints
from .changes import Changes, find_changes, removed_places, with_removed
from .chunks import default_step
from .job import Job, Outcome
from .notices import ratio, saying_how_to_resume, storage_errors
from .place import Place
from .record import Record, read_record
from .revision import revise
from .run import Run, extract
from .task import Task

if TYPE_CHECKING:
    from ..rpc.extraction import FeatureStream


def resume_or_start(job: Job) -> Outcome:
    """Extract what is not complete yet. Raises ThingsvisionError; what is complete stays.

    InvalidRequestError says what has changed since the job began.
    """
    with saying_how_to_resume(job.place.record, job.place.result):
        return _resume_or_start(job)


def _resume_or_start(job: Job) -> Outcome:
    queue = job.task.images()
    record = read_record(job.place.record)
    job.report(loading(job.task.model.name), 0, None)
    if record is None or not record.chunks:
        return _start(job, _look(queue))
    removed = _compare_settings(job, record, queue)
    queue = _look(with_removed(queue, record.names or (), removed))
    return _resume(job, record, queue, removed)


def facts_of(stream: FeatureStream) -> dict[str, Any]:
    """Return what a server reports about an extraction before its rows, as JSON values."""
    return {
        **stream.provenance.to_dict(),
        "server_batch_size": stream.batch_size,
        "columns": {
            module: {"shape": list(shape), "dtype": stream.dtypes[module]}
            for module, shape in stream.row_shapes.items()
        },
    }


def origin_for(task: Task, stream: FeatureStream, queue: ImageQueue) -> dict[str, Any]:
    """Return the origin of all rows of a task, without images and modules."""
    kind = "encoded" if queue.tensor_shape is None else "tensor"
    origin = describe(stream.provenance, task.request(stream.batch_size), kind)
    return {**origin, "image_count": queue.count}


def _look(queue: ImageQueue) -> ImageQueue:
    """Look at the headers of all images, and say which are bad."""
    checked, bad = inspect_headers(queue)
    if bad:
        say(f"{bad_text(bad, queue.count)}. The extraction goes on with the others.")
    return checked


# ---------------------------------------------------------------- a new job


def _start(job: Job, queue: ImageQueue) -> Outcome:
    sent, seen = recording_fingerprints(queue)
    with closing(job.task.stream(job.client, sent)) as stream:
        record = _new_record(job, stream, queue)
        _show_size(job, record, queue.count)
        job.report("extracting", 0, queue.count)
        with storage_errors(job.place.result):
            record.save()
        origin = origin_for(job.task, stream, queue)
        extract(Run(job, record, origin=origin, seen=seen, count=queue.count, first=0), stream)
    return Outcome(record, origin, was_complete=False)


def _new_record(job: Job, stream: FeatureStream, queue: ImageQueue) -> Record:
    facts = facts_of(stream)
    columns = job.task.columns(facts["columns"])
    job.check(columns)
    step_size = job.step_size or default_step(columns.values(), stream.batch_size)
    settings = {**_settings(job, queue), "step_size": step_size}
    return Record(job.place.record, settings, facts, job.task.names())


def _settings(job: Job, queue: ImageQueue) -> dict[str, Any]:
    # Names of files say more than their number.
    count = queue.count if job.task.root is None else None
    return {
        **job.task.settings(),
        "file_format": job.place.file_format,
        "image_count": count,
    }


# ---------------------------------------------------------------- a resumed job


def _compare_settings(job: Job, record: Record, queue: ImageQueue) -> frozenset[int]:
    """Return the places of images that were removed. Raises InvalidRequestError."""
    step_size = job.step_size or record.settings["step_size"]
    now = {**_settings(job, queue), "step_size": step_size}
    _refuse(job, record, differences.of_values(record.settings, now))
    names = job.task.names()
    if record.names is None or names is None:
        return frozenset()
    removed = removed_places(record.names, names)
    if removed is None:
        _refuse(job, record, differences.of_names(record.names, names))
    return removed or frozenset()


def _resume(job: Job, record: Record, queue: ImageQueue, removed: frozenset[int]) -> Outcome:
    with closing(job.task.announcement(job.client, queue)) as announced:
        _compare_facts(job, record, announced)
        _show_size(job, record, queue.count)
        origin = origin_for(job.task, announced, queue)
    with storage_errors(job.place.result):
        _forget_lost_chunks(job, record)
    images = iter(queue.images)
    changes = _compare_images(job, record, images, removed=removed, count=queue.count)
    if changes:
        _say_changes(job, changes)
        revise(job, record, queue, changes, origin=origin)
    if record.ended:
        return Outcome(record, origin, was_complete=not changes)
    following = next(images, None)
    if following is None:
        with storage_errors(job.place.result):
            record.end()
        return Outcome(record, origin, was_complete=False)
    left = None if queue.count is None else queue.count - record.done
    rest = replace(queue, images=chain([following], images), count=left)
    say(f"Resuming at image {_position(record, queue)}: {job.place.result}")
    sent, seen = recording_fingerprints(rest)
    with closing(job.task.stream(job.client, sent)) as stream:
        _compare_facts(job, record, stream)
        first = record.done
        extract(Run(job, record, origin=origin, seen=seen, count=queue.count, first=first), stream)
    return Outcome(record, origin, was_complete=False)


def _show_size(job: Job, record: Record, count: int | None) -> None:
    """Show how large the features will be, and warn if the disk has less room."""
    if count is None:
        return
    columns = job.task.columns(record.facts["columns"]).values()
    size = count * sum(column.row_bytes for column in columns)
    folder = next(one for one in (job.place.folder, *job.place.folder.parents) if one.exists())
    free = disk_usage(folder).free
    note(job.progress, size_text(size))
    if (1 - record.done / count) * size > free:
        say(
            f"The features have {size_text(size)}, but only {size_text(free)} are free on the disk "
            f"of {folder}: choose another folder, or make them smaller with reduction."
        )


def _say_changes(job: Job, changes: Changes) -> None:
    done = [
        f"{len(places)} {what}"
        for what, places in (
            ("images that can be used now are added", changes.repaired),
            ("removed images are left out", changes.gone),
        )
        if places
    ]
    say(f"{'; '.join(done)}; all other rows stay: {job.place.result}")


def _position(record: Record, queue: ImageQueue) -> str:
    return str(record.done) if queue.count is None else f"{record.done} of {queue.count}"


def _compare_facts(job: Job, record: Record, stream: FeatureStream) -> None:
    _refuse(job, record, differences.of_facts(record.facts, facts_of(stream)))


def _compare_images(
    job: Job,
    record: Record,
    images: Iterator[SentImage],
    removed: frozenset[int],
    count: int | None,
) -> Changes:
    def on_progress(done: int) -> None:
        job.report("checking", done, count)

    changes, others = find_changes(images, record.images(), removed, on_progress)
    _refuse(job, record, others)
    if record.ended and (extra := next(images, None)) is not None:
        _refuse(job, record, [f"there is an image {record.done} now, {extra.name!r}"])
    return changes


def _refuse(job: Job, record: Record, found: list[str]) -> None:
    if found:
        raise InvalidRequestError(
            f"An extraction for {job.place.result} began with other settings or images, and has "
            f"{ratio(record.done)}: {'; '.join(found)}. To resume it, repeat the first call; "
            f"to start again, {job.place.anew}."
        )


def _forget_lost_chunks(job: Job, record: Record) -> None:
    """Forget chunks whose files were removed or truncated, so that they are extracted again."""
    for path in job.place.temporary_files(job.task.modules):
        path.unlink(missing_ok=True)
    kept = _intact_count(job.place, record)
    if kept < len(record.chunks):
        start = record.chunks[kept].start
        record.keep(kept)
        say(
            f"Files for {job.place.result} are missing or changed: images from {start} on are "
            "extracted again."
        )


def _intact_count(place: Place, record: Record) -> int:
    if record.whole is not None:
        files = {place.whole(module): size for module, size in record.whole.items()}
        return len(record.chunks) if _are_there(files) else 0
    for number, chunk in enumerate(record.chunks):
        files = {
            place.chunk(module, chunk.start, chunk.stop): size
            for module, size in chunk.sizes.items()
        }
        if not _are_there(files):
            return number
    return len(record.chunks)


def _are_there(files: Mapping[Path, int]) -> bool:
    return all(path.is_file() and path.stat().st_size == size for path, size in files.items())
