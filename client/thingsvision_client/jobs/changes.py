"""What became of the images of a job's complete chunks: repaired, removed, or changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from ..errors import REMOVED, ImageError
from ..images.image import SentImage
from ..origins import Fingerprint, fingerprint_of


@dataclass
class Changes:
    """Places whose rows a job has to add, and places of removed images, with a row or without."""

    repaired: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.repaired or self.gone)


def find_changes(
    images: Iterator[SentImage],
    recorded: Iterable[Fingerprint],
    removed: AbstractSet[int],
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
