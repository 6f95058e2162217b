"""What the first bytes of a file say: whether it is of a format that a server decodes."""

from __future__ import annotations

import os
from pathlib import Path

_HEADER_BYTES = 16

_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II\x2a\x00",
    b"MM\x00\x2a",
    b"II\x00\x2a",
    b"MM\x2a\x00",
    b"II\x2b\x00",
    b"MM\x00\x2b",
)
"""How JPEG, PNG, GIF, BMP and TIFF files begin, as Pillow tells them; the last two are BigTIFF."""

_DIB_SIZES = (12, 40, 52, 56, 64, 108, 124)
"""Lengths of the header with which a BMP without a file header begins."""

_DRAWN_HERE = (".eps",)
"""Files that are drawn on this machine before they are sent."""


def file_fault(path: Path, most_bytes: int) -> str:
    """Return what the header of an image file says is wrong with it; empty if nothing is."""
    try:
        with path.open("rb") as file:
            head, size = file.read(_HEADER_BYTES), os.fstat(file.fileno()).st_size
    except OSError as error:
        return f"can't be read: {error.strerror or error}"
    if path.suffix.lower() in _DRAWN_HERE:
        return "" if size else "is empty (0 bytes)"
    return _header_fault(head, size, most_bytes)


def _header_fault(head: bytes, size: int, most_bytes: int) -> str:
    """Return what is wrong with a file of `size` bytes that begins with `head`."""
    if not size:
        return "is empty (0 bytes)"
    if size > most_bytes:
        return f"has more than {most_bytes} bytes: send a smaller one"
    if _is_image(head):
        return ""
    return "is not a JPEG, PNG, TIFF, WebP, BMP or GIF image, or its header is broken"


def _is_image(head: bytes) -> bool:
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    return int.from_bytes(head[:4], "little") in _DIB_SIZES
