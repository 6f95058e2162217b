"""Images in a server's cache."""

from __future__ import annotations

from dataclasses import dataclass

from .ownership import Ownership


@dataclass(frozen=True)
class CachedImage:
    """An image in a server's cache.

    Attributes:
        sha256: SHA-256 of its file.
        size_bytes: Length of its file.
        ownership: Whose it is.

    """

    sha256: str
    size_bytes: int
    ownership: Ownership


@dataclass(frozen=True)
class DeletedImages:
    """What was deleted from a server's cache.

    Attributes:
        image_count: Number of images.
        freed_bytes: Bytes freed on the server's disk: none for an image that others sent, too.

    """

    image_count: int
    freed_bytes: int

    def __str__(self) -> str:
        images = "image" if self.image_count == 1 else "images"
        return f"{self.image_count:,} {images} deleted, {self.freed_bytes:,} bytes freed."
