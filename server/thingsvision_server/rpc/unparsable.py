"""Hands on messages that can't be parsed, so that their calls end as invalid requests.

gRPC itself ends such a call as INTERNAL, as if the server had failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from ..errors import InvalidRequestError
from .message_size import find_excess


@dataclass(frozen=True)
class Unparsable:
    """A message that can't be parsed."""

    byte_count: int
    reason: str
    excess: str = ""
    """What it has too much of to be parsed."""

    def error(self) -> InvalidRequestError:
        """Return the error of the call that sent it."""
        if self.excess:
            return InvalidRequestError(
                f"a message of {self.byte_count:,} bytes must be smaller when it is parsed: it has "
                f"{self.excess}; ask for less, or split the request",
                field="message",
            )
        return InvalidRequestError(
            f"a message of {self.byte_count:,} bytes must be protobuf as in thingsvision.proto, "
            f"with UTF-8 strings, got other bytes ({self.reason}); use stubs of this server's "
            "contract",
            field="message",
        )


def message_reader(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Return a parser of messages that returns an Unparsable instead of raising."""
    if parse is None:
        return None
    kind = getattr(parse, "__self__").DESCRIPTOR  # noqa: B009 - the class whose FromString it is

    def read(content: bytes) -> Any:
        if excess := find_excess(content, kind):
            return Unparsable(len(content), "", excess)
        try:
            return parse(content)
        except DecodeError as error:
            return Unparsable(len(content), str(error))

    return read
