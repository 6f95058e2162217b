"""Looks at the headers of all images before the first of them is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from ..errors import BadImage, InvalidRequestError, ThingsvisionError
from .image import ImageContent, SentImage
from .queue import ImageQueue, Reiterable

_THREADS = 16
"""Files on a network drive are opened many at a time."""


def inspect_headers(queue: ImageQueue) -> tuple[ImageQueue, list[BadImage]]:
    """Return the images, with holes in the place of those with a broken header, and these.

    Files are opened, but not read to their end. Images that can be iterated only once, or whose
    number is not known, are returned as they are.
    """
    if queue.count is None or not queue.is_reiterable or queue.tensor_shape is not None:
        return queue, []
    bad = {one.place: one for one in _find_bad(queue.images)}
    return with_holes(queue, bad), list(bad.values())


def with_holes(queue: ImageQueue, bad: Mapping[int, BadImage]) -> ImageQueue:
    """Return the images, with holes at some places of a queue that can be iterated again."""
    if not bad:
        return queue
    return replace(queue, images=Reiterable(lambda: _with_holes(queue.images, bad)))


def _find_bad(images: Iterable[SentImage]) -> Iterator[BadImage]:
    files = [(place, image) for place, image in enumerate(images) if image.look is not None]
    looks = [image.look for _, image in files if image.look is not None]
    with ThreadPoolExecutor(_THREADS, "headers") as threads:
        faults = list(threads.map(lambda look: look(), looks))
    for (place, image), fault in zip(files, faults, strict=True):
        if fault:
            yield BadImage(place, image.name, fault)


def _with_holes(images: Iterable[SentImage], bad: Mapping[int, BadImage]) -> Iterator[SentImage]:
    for place, image in enumerate(images):
        yield _as_hole(image, bad[place].reason) if place in bad else image


def _as_hole(image: SentImage, fault: str) -> SentImage:
    """Return an image that fails with a fault; whoever records what is read still sees it."""

    def read() -> ImageContent:
        with suppress(OSError, ThingsvisionError):
            image.read()
        raise InvalidRequestError(fault)

    return replace(image, read=read, look=None)
