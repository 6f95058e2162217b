"""Frames of Arrow as messages, written and read by hand: protobuf copies their bytes each way.

What is written is what protobuf writes for `ExtractResponse(frame=...)` and
`ComputeRDMResponse(frame=...)`, where `frame` has the same number, but for longer lengths: stock
stubs read it. In front of the Arrow bytes are 16 others, so that values stay aligned in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

FRAME_TAG = 15 << 3 | 2
"""Field 15 of a reply, `frame`, and of a frame, `arrow_ipc`: bytes whose length follows."""

_INDEX_TAG = 1 << 3
_HEAD = Struct("<B4sB5sB4s")
_AFTER_LENGTH = _HEAD.size - 5
"""Bytes of the head that the first length counts."""

MAX_FRAME_BYTES = (1 << 28) - 1 - _AFTER_LENGTH
"""A length takes 4 bytes of 7 bits."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What an ArrowFrame holds, without a copy."""

    index: int
    arrow_ipc: bytes | memoryview


def frame_message(index: int, pieces: Sequence[bytes | memoryview]) -> bytes:
    """Return the message of a reply that has the pieces as its frame: their only copy."""
    length = sum(map(len, pieces))
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame has at most {MAX_FRAME_BYTES:,} bytes, not {length:,}")
    head = _HEAD.pack(
        FRAME_TAG,
        _varint(length + _AFTER_LENGTH, 4),
        _INDEX_TAG,
        _varint(index, 5),
        FRAME_TAG,
        _varint(length, 4),
    )
    return b"".join((head, *pieces))


FrameWriter = Callable[[int, Sequence[bytes | memoryview]], bytes]
"""Makes the message of a reply from a frame's index and the pieces of its bytes."""


def frame_writer(reply: Any, *, fast: bool) -> FrameWriter:
    """Return what writes frames of a class of replies: `frame_message`, or protobuf itself."""

    def write(index: int, pieces: Sequence[bytes | memoryview]) -> bytes:
        frame = {"index": index, "arrow_ipc": b"".join(pieces)}
        message: bytes = reply(frame=frame).SerializeToString()
        return message

    return frame_message if fast else write


def reply_reader(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return what reads a reply's messages: frames written as above by hand, others by `parse`."""

    def read(message: bytes) -> Any:
        return _frame(message) or parse(message)

    return read


def reply_writer(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return what writes a reply's messages: `frame_message`'s as they are, others serialized."""

    def write(message: Any) -> bytes:
        return message if isinstance(message, bytes) else serialize(message)

    return write


def _frame(message: bytes) -> Frame | None:
    """Return the frame of a message that has the head above; None: it is for protobuf to read."""
    if len(message) < _HEAD.size or message[0] != FRAME_TAG:
        return None
    _, whole, index_tag, index, tag, length = _HEAD.unpack_from(message)
    if (index_tag, tag) != (_INDEX_TAG, FRAME_TAG):
        return None
    rest = len(message) - _HEAD.size
    if whole != _varint(rest + _AFTER_LENGTH, 4) or length != _varint(rest, 4):
        return None
    number = _decode_varint(index)
    if index != _varint(number, 5):
        return None
    return Frame(number, memoryview(message)[_HEAD.size :])


def _varint(number: int, byte_count: int) -> bytes:
    """Return a varint of so many bytes: 7 bits each, the lowest first, the last without a flag."""
    groups = [number >> 7 * place & 0x7F | 0x80 for place in range(byte_count)]
    groups[-1] &= 0x7F
    return bytes(groups)


def _decode_varint(varint: bytes) -> int:
    return sum((group & 0x7F) << 7 * place for place, group in enumerate(varint))
