"""Reads WebP files beside Pillow: their size before they are opened, and the pixels of large ones.

Pillow holds the lock of Python while it copies the pixels: all requests wait for a fifth of a
second with 100 megapixels. https://developers.google.com/speed/webp/docs/riff_container has the
format.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from PIL import Image as PillowImage

_LARGE_PIXELS = 4_000_000
_CHANNELS = 4
_FLAGS_AT, _IS_ANIMATED = 20, 0x02


def find_webp_size(encoded: bytes) -> tuple[int, int] | None:
    """Return the width and height of a WebP file; None if it is another file, or broken."""
    if len(encoded) < 30 or (encoded[:4], encoded[8:12]) != (b"RIFF", b"WEBP"):
        return None
    kind, content = encoded[12:16], encoded[20:30]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(content[4:7], "little"),
            1 + int.from_bytes(content[7:10], "little"),
        )
    if kind == b"VP8L" and content[0] == 0x2F:
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(content[at : at + 2], "little") for at in (6, 8))
        return width & 0x3FFF, height & 0x3FFF
    return None


def is_large_still(encoded: bytes) -> bool:
    """Return whether a file is a large WebP without frames, which `decode_large_webp` decodes."""
    size = find_webp_size(encoded)
    if size is None or size[0] * size[1] < _LARGE_PIXELS or _decoder() is None:
        return False
    return encoded[12:16] != b"VP8X" or not encoded[_FLAGS_AT] & _IS_ANIMATED


def decode_large_webp(encoded: bytes) -> PillowImage.Image:
    """Return the pixels as Pillow's `convert('RGB')` does; raise OSError if the file is broken."""
    size, decode = find_webp_size(encoded), _decoder()
    if size is None or decode is None:
        raise OSError("it is not a WebP file that can be decoded here")
    pixels = np.empty((size[1], size[0], _CHANNELS), np.uint8)
    row_bytes = _CHANNELS * size[0]
    if not decode(encoded, len(encoded), pixels.ctypes.data, pixels.nbytes, row_bytes):
        raise OSError("its pixels can't be decoded")
    return PillowImage.frombuffer("RGBX", size, pixels, "raw", "RGBX", 0, 1).convert("RGB")


@cache
def _decoder() -> Any:
    """Return the function of the library that Pillow has loaded; None if it can't be found."""
    try:
        from PIL import _webp

        function = ctypes.CDLL(_webp.__file__).WebPDecodeRGBAInto
    except (ImportError, OSError, AttributeError):  # Pillow may be built in other ways
        return None
    size = ctypes.c_size_t
    function.argtypes = [ctypes.c_char_p, size, ctypes.c_void_p, size, ctypes.c_int]
    function.restype = ctypes.c_void_p
    return function
