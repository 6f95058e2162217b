"""Fingerprints of the images that were sent: names, and the SHA-256 of their bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from ..images.image import ImageContent, SentImage
from ..values.servers import ServerFacts

if TYPE_CHECKING:  # it loads numpy
    from ..images.queue import ImageQueue


@dataclass(frozen=True)
class Fingerprint:
    """An image as it was sent: its name and the SHA-256 (hex) of the bytes of its file.

    `kind` is as in SentImage: for a `tensor` the bytes are float32 values in C order, for a `text`
    UTF-8. `fault` is what is wrong with an image that can't be used, which has no row; `sha256` is
    empty if it could not be read.
    """

    name: str
    sha256: str
    kind: str = "encoded"
    fault: str = ""
    pass_size: int = 0
    """Images in its forward pass, if that had fewer than its batch; 0: it had all."""
    server: ServerFacts | None = None
    """The server that computed its row, if known."""

    def to_dict(self) -> dict[str, str]:
        """Return the fields that metadata has for an image."""
        return {"name": self.name, "sha256": self.sha256}


def fingerprint_of(image: SentImage) -> Fingerprint:
    """Return the fingerprint of an image, which is read. Raises ImageError."""
    return _fingerprint(image, image.load())


def record_fingerprints(queue: ImageQueue) -> tuple[ImageQueue, deque[Fingerprint]]:
    """Return the same images, and a deque that gets their fingerprints as they are read, in order.

    Images that can't be read have one, too. The deque is emptied when an iteration of the images
    starts anew.
    """
    recorder = _Recorder(queue.images)
    images = recorder if queue.is_reiterable else iter(recorder)
    return replace(queue, images=images), recorder.fingerprints


class _Recorder:
    """Images whose fingerprints are recorded as they are read, for the latest iteration.

    Several threads may read at once: a fingerprint comes once all images before it were read.
    """

    def __init__(self, images: Iterable[SentImage]) -> None:
        self.fingerprints: deque[Fingerprint] = deque()
        self._images = images
        self._turn = self._next = 0
        self._early: dict[int, Fingerprint] = {}
        self._lock = Lock()

    def __iter__(self) -> Iterator[SentImage]:
        with self._lock:
            self._turn += 1
            self.fingerprints.clear()
            self._next, self._early = 0, {}
            turn = self._turn
        for place, image in enumerate(self._images):
            yield replace(image, read=partial(self._read, image, place, turn))

    def _read(self, image: SentImage, place: int, turn: int) -> ImageContent:
        found = Fingerprint(image.name, "", image.kind)
        try:
            content = image.read()
            found = _fingerprint(image, content)
        finally:
            with self._lock:  # a call that ended may still be reading its next image
                if turn == self._turn:
                    self._add(place, found)
        return content

    def _add(self, place: int, found: Fingerprint) -> None:
        if place >= self._next:  # a call that is made again reads its images again
            self._early.setdefault(place, found)
        while self._next in self._early:
            self.fingerprints.append(self._early.pop(self._next))
            self._next += 1


def _fingerprint(image: SentImage, content: ImageContent) -> Fingerprint:
    return Fingerprint(image.name, content.sha256.hex(), image.kind)
