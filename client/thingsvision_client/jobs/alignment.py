"""Finds images that were removed, by their names, or by their bytes where names don't tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from ..errors import REMOVED, ImageError
from ..images.image import SentImage, hole
from ..images.queue import ImageQueue, Reiterable
from ..labels import are_counted
from ..origins import Fingerprint


def with_removed(
    queue: ImageQueue,
    open_again: Callable[[], ImageQueue],
    recorded: Callable[[], Iterable[Fingerprint]],
    names: Sequence[str] | None,
) -> tuple[ImageQueue, AbstractSet[int]] | None:
    """Return the images with holes at the places of images that were removed.

    `recorded` gives the images of complete rows, `names` are those of all images, if they were
    known. The second value has the places of the holes; it may grow as the images are read.
    `open_again` opens the images for a second reading. None for names that differ otherwise.
    """
    now = queue.names()
    if names is None or now is None:
        return _by_content(queue, open_again, list(recorded()), names)
    removed = find_removed(names, now)
    if removed is None:
        return None
    if removed and (len(set(names)) < len(names) or _are_numbers(names)):
        return _by_content(queue, open_again, list(recorded()), names)
    return _with_holes(queue, names, removed), removed


def find_removed(names: Sequence[str], now: Sequence[str]) -> frozenset[int] | None:
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


def _with_holes(queue: ImageQueue, names: Sequence[str], removed: frozenset[int]) -> ImageQueue:
    if not removed:
        return queue

    def images() -> Iterator[SentImage]:
        left = iter(queue.images)
        for place, name in enumerate(names):
            yield hole(name, REMOVED) if place in removed else next(left)

    return replace(queue, images=Reiterable(images), count=len(names))


def _are_numbers(names: Sequence[str]) -> bool:
    # MATLAB counts from 1.
    return are_counted(names) or all(name == str(row) for row, name in enumerate(names, 1))


def _by_content(
    queue: ImageQueue,
    open_again: Callable[[], ImageQueue],
    recorded: Sequence[Fingerprint],
    names: Sequence[str] | None,
) -> tuple[ImageQueue, AbstractSet[int]]:
    """Do as `with_removed`, by the SHA-256 of images.

    An image that is neither the next recorded one nor a later one takes the place of the next: it
    was repaired, changed, or is new.
    """
    removed: set[int] = set()
    first = iter([queue])

    def images() -> Iterator[SentImage]:
        opened = next(first, None) or open_again()
        return _align(opened, recorded, names, removed)

    return replace(queue, images=Reiterable(images), count=None), removed


def _align(
    queue: ImageQueue,
    recorded: Sequence[Fingerprint],
    names: Sequence[str] | None,
    removed: set[int],
) -> Iterator[SentImage]:
    counted = names is None or _are_numbers(names)
    keys = [("" if counted else one.name, one.sha256) for one in recorded]
    last = {key: place for place, key in enumerate(keys)}
    place = 0
    for number, image in enumerate(queue.images):
        if place < len(recorded):
            image, key = _read(image, counted=counted)
            while key[1] and last.get(key, -1) > place and keys[place] != key:
                removed.add(place)
                yield hole(recorded[place].name, REMOVED)
                place += 1
        yield replace(image, name=_name_at(place, image.name, number))
        place += 1
    for left in range(place, len(recorded)):
        removed.add(left)
        yield hole(recorded[left].name, REMOVED)


def _read(image: SentImage, *, counted: bool) -> tuple[SentImage, tuple[str, str]]:
    """Return an image with its content, and what tells it from others; empty for a bad image."""
    name = "" if counted else image.name
    try:
        content = image.load()
    except ImageError:
        return image, (name, "")
    return replace(image, read=lambda: content, look=None), (name, content.sha256.hex())


def _name_at(place: int, name: str, number: int) -> str:
    """Return the name of an image at a place, if names only count the images."""
    return str(place + int(name) - number) if name in (str(number), str(number + 1)) else name
