"""Cuts the frames of an Arrow IPC stream into its messages, checked before their bodies arrive.

Arrow's own reader waits for as many bytes as a message announces, and inflates what is compressed.
The format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from struct import unpack_from

MOST_METADATA_BYTES = 16 * 1024 * 1024
"""Most bytes of a message's metadata: those of a schema with thousands of columns are fewer."""

MOST_BODY_BYTES = 256 * 1024 * 1024
"""Most bytes of a record batch."""

MOST_ROWS = 1024 * 1024
"""Most rows of a record batch."""

_CONTINUATION = b"\xff\xff\xff\xff"
_SCHEMA, _RECORD_BATCH = 1, 3
_KIND, _HEADER, _BODY_BYTES = 1, 2, 3
"""Places of fields in the table `Message` of Arrow's Message.fbs."""
_ROWS, _COMPRESSION = 0, 3
"""Places of fields in the table `RecordBatch`."""


class MessageError(ValueError):
    """A message is not of a stream of features; the message of the error says why."""


class MessageCutter:
    """Takes frames as they arrive, and returns the messages that they complete."""

    def __init__(self) -> None:
        self._held = bytearray()
        """The beginning of a message."""
        self._length = 0
        """Its length, bytes; 0: not known yet."""
        self._has_ended = False

    def feed(self, frame: bytes) -> Iterator[memoryview]:
        """Yield the messages that a frame completes; raise MessageError as soon as one is wrong.

        A message that lies in one frame is a view of it. What follows the stream's end is ignored.
        """
        if self._has_ended:
            return
        if self._held:
            self._held += frame
        content, start = memoryview(self._held or frame), 0
        while self._find_length(content[start:]):
            stop = start + self._length
            if stop > len(content):
                break
            yield content[start:stop]
            start, self._length = stop, 0
        if start or not self._held:
            self._held = bytearray(content[start:])

    def finish(self) -> None:
        """Raise MessageError if the frames end within a message."""
        if self._held and not self._has_ended:
            raise MessageError(f"it ends within a message, after {len(self._held):,} bytes of it")

    def _find_length(self, content: memoryview) -> bool:
        """Find how long the message is that begins the content; return whether it is known."""
        if self._length or len(content) < 4:
            return bool(self._length)
        # Arrow before 0.15 wrote no continuation.
        start = 8 if content[:4] == _CONTINUATION else 4
        if len(content) < start:
            return False
        metadata_bytes: int = unpack_from("<i", content, start - 4)[0]
        self._has_ended = not metadata_bytes
        if self._has_ended:
            return False
        if not 0 < metadata_bytes <= MOST_METADATA_BYTES:
            raise MessageError(
                f"the metadata of a message must have at most {MOST_METADATA_BYTES:,} bytes, got "
                f"{metadata_bytes:,}"
            )
        metadata = content[start : start + metadata_bytes]
        if len(metadata) == metadata_bytes:
            self._length = start + metadata_bytes + _check(metadata)
        return bool(self._length)


def _check(metadata: memoryview) -> int:
    """Return how long a message's body is; raise MessageError if it must not be decoded."""
    try:
        message = _Table(metadata, _offset(metadata, 0))
        kind, body_bytes = message.number(_KIND, "<B"), message.number(_BODY_BYTES, "<q")
        batch = message.table(_HEADER) if kind == _RECORD_BATCH else None
        rows = batch.number(_ROWS, "<q") if batch else 0
        is_compressed = batch is not None and bool(batch.place(_COMPRESSION))
    except struct.error as error:
        raise MessageError("the metadata of a message are broken") from error
    if kind not in (_SCHEMA, _RECORD_BATCH):
        raise MessageError(
            f"its messages must be a schema and record batches, got a message of type {kind}: "
            "write columns without dictionaries"
        )
    if is_compressed:
        raise MessageError("a record batch is compressed: write it without compression")
    if not 0 <= body_bytes <= MOST_BODY_BYTES or not 0 <= rows <= MOST_ROWS:
        raise MessageError(
            f"a record batch must have at most {MOST_ROWS:,} rows and {MOST_BODY_BYTES:,} bytes, "
            f"got {rows:,} rows and {body_bytes:,} bytes: write smaller batches"
        )
    return body_bytes


class _Table:
    """A table of a flatbuffer: fields are found through a list of their offsets."""

    def __init__(self, content: memoryview, start: int) -> None:
        self._content, self._start = content, start
        self._fields = start - _unpack("<i", content, start)

    def place(self, field: int) -> int:
        """Return where a field is; 0 if it is not set."""
        entry = 4 + 2 * field
        if entry + 2 > _unpack("<H", self._content, self._fields):
            return 0
        offset = _unpack("<H", self._content, self._fields + entry)
        return self._start + offset if offset else 0

    def number(self, field: int, kind: str) -> int:
        """Return a number; 0 if it is not set."""
        place = self.place(field)
        return _unpack(kind, self._content, place) if place else 0

    def table(self, field: int) -> _Table | None:
        """Return a table in this table."""
        place = self.place(field)
        return _Table(self._content, _offset(self._content, place)) if place else None


def _offset(content: memoryview, place: int) -> int:
    return place + _unpack("<I", content, place)


def _unpack(kind: str, content: memoryview, place: int) -> int:
    if place < 0:  # struct would count from the end
        raise struct.error
    number: int = unpack_from(kind, content, place)[0]
    return number
