"""Which images were sent: names, and the SHA-256 of what was read; knows no server."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..images import ImageQueue, SentImage


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
    """Return the same images, and what fills with their fingerprints as they go out, in order."""
    seen: deque[Fingerprint] = deque()

    def observed(image: SentImage) -> SentImage:
        def read() -> bytes | str:
            content = image.read()
            seen.append(fingerprint(image, content))
            return content

        return replace(image, read=read)

    return replace(queue, images=map(observed, queue.images)), seen
