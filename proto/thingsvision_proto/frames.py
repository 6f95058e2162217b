"""Encodes and decodes Arrow frames as messages by hand, because protobuf copies their bytes.

The encoding is that of `ExtractResponse(frame=...)` and `ComputeRDMResponse(frame=...)`, in which
`frame` has the same field number, except for padded lengths, so stock stubs read it. The header has
16 bytes, so that values stay aligned in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

FRAME_TAG = 15 << 3 | 2
"""Field 15 of a reply, `frame`, and of a frame, `arrow_ipc`: length-delimited bytes."""

_INDEX_TAG = 1 << 3
_HEADER = Struct("<B4sB5sB4s")
_AFTER_LENGTH = _HEADER.size - 5
"""Bytes of the header that the first length includes."""

MAX_FRAME_BYTES = (1 << 28) - 1 - _AFTER_LENGTH
"""Limit of a length encoded as 4 bytes of 7 bits."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The content of an ArrowFrame, without a copy."""

    index: int
    arrow_ipc: bytes | memoryview


def frame_message(index: int, pieces: Sequence[bytes | memoryview]) -> bytes:
    """Return the message of a reply whose frame joins the pieces; this is their only copy."""
    length = sum(map(len, pieces))
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame must have at most {MAX_FRAME_BYTES:,} bytes, got {length:,}")
    frame = (FRAME_TAG, _varint(length + _AFTER_LENGTH, 4))
    fields = (_INDEX_TAG, _varint(index, 5), FRAME_TAG, _varint(length, 4))
    return b"".join((_HEADER.pack(*frame, *fields), *pieces))


FrameWriter = Callable[[int, Sequence[bytes | memoryview]], bytes]
"""Returns the message of a reply for a frame's index and the pieces of its bytes."""


def frame_writer(reply: Any, *, fast: bool) -> FrameWriter:
    """Return the function that writes frames of a reply class: `frame_message`, or protobuf's."""

    def write(index: int, pieces: Sequence[bytes | memoryview]) -> bytes:
        frame = {"index": index, "arrow_ipc": b"".join(pieces)}
        message: bytes = reply(frame=frame).SerializeToString()
        return message

    return frame_message if fast else write


def reply_reader(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a function that reads messages of a reply: frames by hand, others with `parse`."""

    def read(message: bytes) -> Any:
        return _frame(message) or parse(message)

    return read


def reply_writer(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return a function that writes messages of a reply: bytes unchanged, others serialized."""

    def write(message: Any) -> bytes:
        return message if isinstance(message, bytes) else serialize(message)

    return write


def _frame(message: bytes) -> Frame | None:
    """Return the frame of a message with the header above; None: protobuf must read it."""
    if len(message) < _HEADER.size or message[0] != FRAME_TAG:
        return None
    _, whole, index_tag, index, tag, length = _HEADER.unpack_from(message)
    if (index_tag, tag) != (_INDEX_TAG, FRAME_TAG):
        return None
    rest = len(message) - _HEADER.size
    if whole != _varint(rest + _AFTER_LENGTH, 4) or length != _varint(rest, 4):
        return None
    number = _decode_varint(index)
    if index != _varint(number, 5):
        return None
    return Frame(number, memoryview(message)[_HEADER.size :])


def _varint(number: int, byte_count: int) -> bytes:
    """Return a varint padded to `byte_count` bytes of 7 bits, the lowest first."""
    groups = [number >> 7 * place & 0x7F | 0x80 for place in range(byte_count)]
    groups[-1] &= 0x7F
    return bytes(groups)


def _decode_varint(varint: bytes) -> int:
    return sum((group & 0x7F) << 7 * place for place, group in enumerate(varint))
