"""Writes pixels as PNG, which is lossless, for users without an imaging library."""

from __future__ import annotations

import zlib
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidRequestError

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""By the number of channels: grey, grey + alpha, RGB, RGB + alpha (PNG 3rd edition, table 8)."""

_FAST = 1
"""Level of compression: photographs shrink little, and sending is quicker than squeezing."""


def png_of(pixels: npt.NDArray[Any]) -> bytes:
    """Return height x width (x channels) uint8 as a PNG file. Raises InvalidRequestError."""
    rows = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if rows.ndim != 3 or not rows.size or rows.dtype != np.uint8:
        raise _no_pixels(pixels)
    height, width, channels = rows.shape
    if channels not in _COLOUR_TYPES:
        raise _no_pixels(pixels)
    # 8 bits, the only methods of compression and filters that there are, no interlacing.
    header = pack(">II", width, height) + bytes((8, _COLOUR_TYPES[channels], 0, 0, 0))
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = rows.reshape(height, -1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), _FAST)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))


def _no_pixels(pixels: npt.NDArray[Any]) -> InvalidRequestError:
    return InvalidRequestError(
        "must be uint8 pixels, height x width or height x width x channels (1 grey, 3 RGB, 4 with "
        f"alpha), got {pixels.dtype} of shape {pixels.shape}"
    )
