"""Starts or resumes a long extraction: checks what is complete, and extracts the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any

from ..calls.memory import size_text
from ..display.progress import loading_stage, note, say
from ..errors import InvalidRequestError, MixedServersError, UnavailableError, bad_text
from ..images.image import SentImage
from ..images.inspection import inspect_headers
from ..images.queue import ImageQueue
from ..origins import describe, differences, record_fingerprints
from .alignment import with_removed
from .changes import Changes, find_changes
from .chunks import default_step
from .interruptions import Interruptions
from .job import Job, Outcome
from .notices import ResumeHint, explain_resuming, ratio, storage_errors
from .place import Place
from .record import Record, batch_size_of, read_record
from .revision import revise
from .run import Run, extract
from .task import Task

if TYPE_CHECKING:
    from ..rpc.feature_stream import FeatureStream


def resume_or_start(job: Job) -> Outcome:
    """Extract what is not complete yet. Raises ThingsvisionError; what is complete stays.

    InvalidRequestError says what has changed since the job began. After an interruption by the
    server or the connection the job goes on, if its images can be read again.
    """
    with explain_resuming(job.place.record, job.place.result):
        interruptions = Interruptions(job.place)
        while True:
            queue = job.task.images()
            try:
                return _resume_or_start(job, queue)
            except UnavailableError as error:
                if not queue.is_reiterable:
                    raise
                interruptions.go_on_after(error)


def _resume_or_start(job: Job, queue: ImageQueue) -> Outcome:
    record = read_record(job.place.record)
    job.report(loading_stage(job.task.model.name), 0, None)
    if record is None or not record.chunks:
        return _start(job, _look(queue))
    queue, removed = _with_holes(job, record, queue)
    queue = replace(_look(queue), cores=record.cores, computed_by=record.computed_by)
    return _resume(job, record, queue, removed)


def facts_of(stream: FeatureStream) -> dict[str, Any]:
    """Return what a server reports about an extraction before its rows, as JSON values."""
    return {
        **stream.provenance.to_dict(),
        "server": stream.server.to_dict(),
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
    sent, seen = record_fingerprints(queue)
    with closing(job.stream(sent)) as stream:
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
    step_size = job.step_size or default_step(columns.values(), batch_size_of(facts))
    names = queue.names()  # they say more than the number of images
    count = queue.count if names is None else None
    settings = {**_settings(job), "image_count": count, "step_size": step_size}
    return Record(job.place.record, settings, facts, names)


def _settings(job: Job) -> dict[str, Any]:
    return {**job.task.settings(), "file_format": job.place.file_format}


# ---------------------------------------------------------------- a resumed job


def _with_holes(job: Job, record: Record, queue: ImageQueue) -> tuple[ImageQueue, AbstractSet[int]]:
    """Return the images with holes where some were removed, and their places.

    Raises InvalidRequestError for other settings, or images that were added or renamed.
    """
    step_size = job.step_size or record.settings["step_size"]
    count = queue.count if record.names is None else None
    now = {**_settings(job), "image_count": count, "step_size": step_size}
    _refuse(job, record, differences.of_values(record.settings, now))
    found = with_removed(queue, job.task.images, record.images, record.names)
    if found is None:
        _refuse(job, record, differences.of_names(record.names, queue.names()))
    return found or (queue, frozenset())


def _resume(job: Job, record: Record, queue: ImageQueue, removed: AbstractSet[int]) -> Outcome:
    # What is complete needs no server like the first.
    is_complete = record.ended and _intact_count(job.place, record) == len(record.chunks)
    computed_by = None if is_complete else queue.computed_by
    with closing(job.announcement(replace(queue, computed_by=computed_by))) as announced:
        if not is_complete:
            _agree(job, record, announced, queue.count)
        _compare_facts(job, record, announced)
        queue = replace(queue, aim=announced.aim)
        _show_size(job, record, queue.count)
        origin = origin_for(job.task, announced, queue)
    with storage_errors(job.place.result):
        _forget_lost_chunks(job, record)
    images = iter(queue.images)
    changes = _compare_images(job, record, images, removed=removed, count=queue.count)
    if changes:
        revise(job, record, queue, changes, origin=origin)
        _say_changes(job, changes)
    if record.ended:
        return Outcome(record, origin, was_complete=not changes)
    following = next(images, None)
    if following is None:
        return _end(job, record, origin)
    left = None if queue.count is None else queue.count - record.done
    cores = record.cores.from_place(record.done)
    rest = replace(queue, images=chain([following], images), count=left, cores=cores)
    say(f"Resuming at image {_position(record, queue)}: {job.place.result}")
    sent, seen = record_fingerprints(rest)
    with closing(job.stream(sent)) as stream:
        _compare_facts(job, record, stream)
        if stream.mixture:
            say(stream.mixture)
        first = record.done
        extract(Run(job, record, origin=origin, seen=seen, count=queue.count, first=first), stream)
    return Outcome(record, origin, was_complete=False)


def _end(job: Job, record: Record, origin: Any) -> Outcome:
    """End a job of which all chunks are there, but not the last line of its record."""
    with storage_errors(job.place.result):
        record.end()
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


def _agree(job: Job, record: Record, stream: FeatureStream, count: int | None) -> None:
    """Open a stream, and say which facts of servers can't be compared.

    Raises MixedServersError if its server would compute other bits than that of the first rows.
    """
    try:
        now = stream.server
    except MixedServersError as error:
        hint = ResumeHint(job.place.result, count, record).text
        raise error.with_text(f"{hint} To start again, {job.place.anew}.") from error
    unknown = record.computed_by.unknown(now)
    if unknown and job.task.options.is_exact:
        say(
            f"It is not known whether {', '.join(unknown)} of the server were the same when this "
            "extraction began: they count as the same."
        )


def _compare_facts(job: Job, record: Record, stream: FeatureStream) -> None:
    _refuse(job, record, differences.of_what_is_computed(record.facts, facts_of(stream)))


def _compare_images(
    job: Job,
    record: Record,
    images: Iterator[SentImage],
    removed: AbstractSet[int],
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
