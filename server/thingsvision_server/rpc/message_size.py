"""Bounds the memory that a message takes once it is parsed, before it is parsed.

Two bytes are an empty message in a message, which protobuf keeps in seventy: a request of 250 MB
could take ten times the memory of the machine. Only content (an image, a frame) may be large.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

MOST_FIELDS = 50_000
"""Fields of a message and of the messages in it; each entry of a repeated field counts."""

MOST_PACKED_BYTES = 8 * 1024 * 1024
"""Bytes of packed numbers, such as `units`; a number takes eight bytes once it is parsed."""

_UNCHECKED_BYTES = 16 * 1024
"""Shorter messages can't take much."""

_CONTENT = (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING)

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_BEGIN_GROUP, _END_GROUP = 3, 4
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


class _MalformedError(Exception):
    """The bytes are not protobuf, as their parser will find too."""


def find_excess(content: bytes, kind: Descriptor) -> str:
    """Return what a message has too much of; empty if nothing, or if it can't be parsed."""
    if len(content) <= _UNCHECKED_BYTES:
        return ""
    counts = _Counts()
    try:
        _count(content, (0, len(content)), kind, counts)
    except _MalformedError:
        return ""
    except _TooManyError as excess:
        return str(excess)
    return ""


class _TooManyError(Exception):
    """A message has too many fields or numbers."""


class _Counts:
    """What has been counted so far."""

    def __init__(self) -> None:
        self.fields = self.packed_bytes = 0

    def add_field(self) -> None:
        self.fields += 1
        if self.fields > MOST_FIELDS:
            raise _TooManyError(f"more than {MOST_FIELDS:,} fields and entries of fields")

    def add_packed(self, byte_count: int) -> None:
        self.packed_bytes += byte_count
        if self.packed_bytes > MOST_PACKED_BYTES:
            raise _TooManyError(f"more than {MOST_PACKED_BYTES:,} bytes of numbers in lists")


def _count(content: bytes, span: tuple[int, int], kind: Descriptor | None, counts: _Counts) -> None:
    """Count the fields in a span of bytes, which are a message of this kind."""
    fields = {} if kind is None else _fields(kind)
    place, stop = span
    while place < stop:
        counts.add_field()
        tag, place = _varint(content, place)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            _, place = _varint(content, place)
        elif wire_type in _FIXED_BYTES:
            place += _FIXED_BYTES[wire_type]
        elif wire_type == _DELIMITED:
            length, start = _varint(content, place)
            place = start + length
            if place > stop:
                raise _MalformedError
            _count_delimited(content, (start, place), fields.get(number), counts)
        elif wire_type not in (_BEGIN_GROUP, _END_GROUP):  # fields in a group are counted as others
            raise _MalformedError


def _count_delimited(
    content: bytes, span: tuple[int, int], field: FieldDescriptor | None, counts: _Counts
) -> None:
    if field is None or field.type in _CONTENT:
        return
    if field.message_type is not None:
        _count(content, span, field.message_type, counts)
    else:
        counts.add_packed(span[1] - span[0])


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place behind it."""
    if place < len(content) and content[place] < 0x80:  # as most tags
        return content[place], place + 1
    number = shift = 0
    for end in range(place, min(place + 10, len(content))):
        byte = content[end]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, end + 1
        shift += 7
    raise _MalformedError


@cache
def _fields(kind: Descriptor) -> Mapping[int, FieldDescriptor]:
    return {field.number: field for field in kind.fields}
