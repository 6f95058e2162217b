"""What became of the images of a job's complete chunks: repaired, removed, or changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..errors import REMOVED, ImageError
from ..images.image import SentImage, hole
from ..images.queue import ImageQueue, Reiterable
from ..origins import Fingerprint, fingerprint_of


@dataclass
class Changes:
    """Places whose rows a job has to add, and places of removed images, with a row or without."""

    repaired: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.repaired or self.gone)


def removed_places(names: Sequence[str], now: Sequence[str]) -> frozenset[int] | None:
    """Return the places of `names` that are missing in `now`; None for any other difference."""
    left = iter(now)
    following = next(left, None)
    removed = []
    for place, name in enumerate(names):
        if name == following:
            following = next(left, None)
        else:
            removed.append(place)
    return frozenset(removed) if following is None else None


def with_removed(queue: ImageQueue, names: Sequence[str], removed: frozenset[int]) -> ImageQueue:
    """Return a queue that has holes at the places of removed images, as long as `names`."""
    if not removed:
        return queue

    def images() -> Iterator[SentImage]:
        left = iter(queue.images)
        for place, name in enumerate(names):
            yield hole(name, REMOVED) if place in removed else next(left)

    return replace(queue, images=Reiterable(images), count=len(names))


def find_changes(
    images: Iterator[SentImage],
    recorded: Iterable[Fingerprint],
    removed: frozenset[int],
    on_progress: Callable[[int], None],
) -> tuple[Changes, list[str]]:
    """Read images again, and return what to change, and the first other difference if any.

    Takes exactly the recorded images from `images`. `on_progress` is called with the number of
    images read.
    """
    changes = Changes()
    for place, was in enumerate(recorded):
        image = next(images, None)
        if image is None:
            return changes, [f"image {place} was {was.name!r}, and there are only {place} now"]
        if image.name != was.name:
            return changes, [f"image {place} was {was.name!r} and is {image.name!r} now"]
        if place in removed:
            if was.fault != REMOVED:
                changes.gone.append(place)
        elif fault := _difference(image, was, place, changes):
            return changes, [f"image {place}, {was.name!r}, {fault}"]
        on_progress(place + 1)
    return changes, []


def _difference(image: SentImage, was: Fingerprint, place: int, changes: Changes) -> str:
    """Return how an image differs from its row; note it as repaired if it had none."""
    try:
        now = fingerprint_of(image).sha256
    except ImageError as error:
        if was.fault:
            return ""
        if not image.may_be_bad:
            raise
        return f"had SHA-256 {was.sha256} and {image.fault_in(error)} now"
    if was.fault and (now != was.sha256 or was.fault == REMOVED):
        changes.repaired.append(place)
    if was.fault or now == was.sha256:
        return ""
    return f"had SHA-256 {was.sha256} and has {now} now"
