"""The SharingService: who may use what people left on a server, and whose it is."""

from __future__ import annotations

import re
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import InvalidRequestError
from ..values.ownership import Sharing
from ..values.records import to_record
from .agreement import Difference, raise_differences
from .connection import Connection

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def share(connection: Connection, what: Any, *, shared: bool) -> Sharing:
    """Share something, or stop sharing it, and return whom it is shared with now."""
    request = pb.ShareRequest(sha256=digest_of(what), shared=shared)
    reply = connection.caller.ask(connection.stubs.sharing.Share, request)
    if bool(reply.shared_with) != shared:
        raise_differences([Difference("shared", shared, bool(reply.shared_with))], "")
    found: Sharing = to_record(reply)
    return found


def move_owner(
    connection: Connection, old: str, new: str, *, over_quota: bool = False
) -> dict[str, int]:
    """Give all that a person owns to another; return the number of things by kind."""
    request = pb.MoveOwnerRequest(old=old, new=new, over_quota=over_quota)
    reply = connection.caller.ask(connection.stubs.sharing.MoveOwner, request)
    return {one.kind: one.count for one in reply.moved}


def digest_of(what: Any) -> str:
    """Return the SHA-256 in an object's `sha256` or in a text. Raises InvalidRequestError."""
    text = str(getattr(what, "sha256", what))
    found = set(_DIGEST.findall(text))
    if len(found) != 1:
        raise InvalidRequestError(
            "`what` must be an upload, a PCA, a cached image, or a text with its SHA-256 (64 "
            f"lower-case hex digits, as `uploads` and `pcas` print it, or `own/SHA256`), got "
            f"{text[:200]!r}."
        )
    return str(found.pop())
