"""Lines on stderr about a job, and how to resume it after a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..display.progress import say
from ..errors import StorageError, ThingsvisionError
from .record import Record, read_record


def ratio(done: int, count: int | None = None) -> str:
    """Return the number of images done, of all if known, as text."""
    return f"{done} images" if count is None else f"{done} of {count} images"


@dataclass(frozen=True)
class ResumeHint:
    """Tells how to resume a job that fails: how many of `count` images are complete."""

    where: Path
    count: int | None
    record: Record

    @property
    def text(self) -> str:
        """The sentence on how to resume; empty if nothing is complete."""
        done = self.record.done
        if not done:
            return ""
        complete = f"{ratio(done, self.count)} are complete for {self.where}"
        return f"{complete}: the same call resumes from there."

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Add the hint to the error if the block fails."""
        try:
            yield
        except ThingsvisionError as error:
            if not self.record.done:
                raise
            raise error.with_text(self.text) from error


@contextmanager
def explain_resuming(record: Path, where: Path) -> Iterator[None]:
    """Say, where Ctrl-C ends a job, what is complete and that the same call goes on."""
    try:
        yield
    except KeyboardInterrupt:
        found = read_record(record)
        text = "" if found is None else ResumeHint(where, _count(found), found).text
        say(f"Interrupted. {text or 'No rows are complete yet: the same call starts again.'}")
        raise


def _count(record: Record) -> int | None:
    """Return the number of all images of a job, if known."""
    known: int | None = record.settings.get("image_count")
    return known if record.names is None else len(record.names)


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that says where."""
    try:
        yield
    except OSError as error:
        fault = error.strerror or str(error)
        raise StorageError(f"Can't write features for {where}: {fault}.") from error
