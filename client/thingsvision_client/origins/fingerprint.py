"""Which images were sent: names, and the SHA-256 of what was read; knows no server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..images.queue import ImageQueue, SentImage


@dataclass(frozen=True)
class Fingerprint:
    """An image as it was sent: its name and the SHA-256 (hex) of the bytes of its file.

    `kind` is as in SentImage: where it is `tensor`, the bytes are float32 values in C order, where
    it is `text`, UTF-8.
    """

    name: str
    sha256: str
    kind: str = "encoded"

    def to_dict(self) -> dict[str, str]:
        """Return what files tell of an image."""
        return {"name": self.name, "sha256": self.sha256}


def fingerprint(image: SentImage, content: bytes | str) -> Fingerprint:
    """Return the fingerprint of an image that was read."""
    data = content.encode() if isinstance(content, str) else content
    return Fingerprint(image.name, sha256(data).hexdigest(), image.kind)


def fingerprinted(queue: ImageQueue) -> tuple[ImageQueue, deque[Fingerprint]]:
    """Return the same images, and what fills with their fingerprints as they go out, in order.

    It is emptied where images that can be read again begin anew.
    """
    observed = _Observed(queue.images)
    images = observed if iter(queue.images) is not queue.images else iter(observed)
    return replace(queue, images=images), observed.seen


class _Observed:
    """Images whose fingerprints are seen when they are read, those of the latest turn."""

    def __init__(self, images: Iterable[SentImage]) -> None:
        self.seen: deque[Fingerprint] = deque()
        self._images = images
        self._turn = 0
        self._lock = Lock()

    def __iter__(self) -> Iterator[SentImage]:
        with self._lock:
            self._turn += 1
            self.seen.clear()
            turn = self._turn
        for image in self._images:
            yield replace(image, read=partial(self._read, image, turn))

    def _read(self, image: SentImage, turn: int) -> bytes | str:
        content = image.read()
        seen = fingerprint(image, content)
        with self._lock:  # a call that ended may still be reading its next image
            if turn == self._turn:
                self.seen.append(seen)
        return content
