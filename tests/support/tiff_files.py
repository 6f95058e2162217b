"""TIFF files that no library writes: with tiles larger than the image, and tags of any kind."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from struct import pack

Tag = tuple[int, int, int, int]
"""Number, type (3: 16 bits, 4: 32 bits, 7: bytes), count, and value or offset."""


def tiled_tiff(side: int, tile_side: int, more: Iterable[Tag] = ()) -> bytes:
    """Return a grey square image in deflated square tiles of zeros."""
    tile = zlib.compress(bytes(tile_side * tile_side), 9)
    count = (-(-side // tile_side)) ** 2
    offsets_at = 8 + len(tile)
    directory_at = offsets_at + 8 * count
    tags: list[Tag] = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 4, 1, tile_side), (323, 4, 1, tile_side),
        (324, 4, count, 8 if count == 1 else offsets_at),
        (325, 4, count, len(tile) if count == 1 else offsets_at + 4 * count), *more,
    ]  # fmt: skip
    places = pack(f"<{count}I", *[8] * count) + pack(f"<{count}I", *[len(tile)] * count)
    entries = b"".join(pack("<HHII", *tag) for tag in tags)  # little-endian, so 16 bits fit too
    directory = pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + pack("<I", directory_at) + tile + places + directory
