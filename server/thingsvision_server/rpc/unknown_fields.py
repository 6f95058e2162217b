"""Refuses messages with fields that this server does not know, which it would ignore otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from ..errors import UnsupportedError
from ..version import server_version


def check_known(message: Message, client_version: str) -> None:
    """Raise UnsupportedError if a message, or a message in it, has an unknown field."""
    field = next(_find_unknown(message), None)
    if field is None:
        return
    client = f" ({client_version})" if client_version else ""
    raise UnsupportedError(
        f"the request asks for something that this server ({server_version()}) does not know, "
        f"{field}; the client{client} is newer: update the server, or leave out what is new",
        field=field,
    )


def _find_unknown(message: Message) -> Iterator[str]:
    """Yield the unknown fields, each as its number and the name of its message."""
    unknown = UnknownFieldSet(message)
    for place in range(len(unknown)):
        yield f"field {unknown[place].field_number} of {message.DESCRIPTOR.name}"
    for field, is_repeated in _message_fields(message.DESCRIPTOR):
        value = getattr(message, field.name)
        if is_repeated:
            for one in value:
                yield from _find_unknown(one)
        elif message.HasField(field.name):
            yield from _find_unknown(value)


@cache
def _message_fields(kind: Descriptor) -> list[tuple[FieldDescriptor, bool]]:
    """Return the fields that are messages, and whether they are repeated."""
    found = [field for field in kind.fields if field.message_type is not None]
    return [(field, not field.has_presence) for field in found]
