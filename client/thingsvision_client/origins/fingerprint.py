"""Fingerprints of the images that were sent: names, and the SHA-256 of their bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from ..images.image import ImageContent, SentImage

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

    def to_dict(self) -> dict[str, str]:
        """Return the fields that metadata has for an image."""
        return {"name": self.name, "sha256": self.sha256}


def fingerprint_of(image: SentImage) -> Fingerprint:
    """Return the fingerprint of an image, which is read. Raises ImageError."""
    return _fingerprint(image, image.load())


def recording_fingerprints(queue: ImageQueue) -> tuple[ImageQueue, deque[Fingerprint]]:
    """Return the same images, and a deque that gets their fingerprints as they are read, in order.

    Images that can't be read have one, too. The deque is emptied when an iteration of the images
    starts anew.
    """
    recorder = _Recorder(queue.images)
    images = recorder if queue.is_reiterable else iter(recorder)
    return replace(queue, images=images), recorder.fingerprints


class _Recorder:
    """Images whose fingerprints are recorded as they are read, for the latest iteration."""

    def __init__(self, images: Iterable[SentImage]) -> None:
        self.fingerprints: deque[Fingerprint] = deque()
        self._images = images
        self._turn = 0
        self._lock = Lock()

    def __iter__(self) -> Iterator[SentImage]:
        with self._lock:
            self._turn += 1
            self.fingerprints.clear()
            turn = self._turn
        for image in self._images:
            yield replace(image, read=partial(self._read, image, turn))

    def _read(self, image: SentImage, turn: int) -> ImageContent:
        found = Fingerprint(image.name, "", image.kind)
        try:
            content = image.read()
            found = _fingerprint(image, content)
        finally:
            with self._lock:  # a call that ended may still be reading its next image
                if turn == self._turn:
                    self.fingerprints.append(found)
        return content


def _fingerprint(image: SentImage, content: ImageContent) -> Fingerprint:
    return Fingerprint(image.name, content.sha256.hex(), image.kind)
