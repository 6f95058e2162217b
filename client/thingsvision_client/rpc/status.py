"""Turns errors of gRPC into errors of this package; the only place that reads statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from thingsvision_proto.model_id import REQUEST_ID_KEY
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from .. import errors
from ..errors import ThingsvisionError
from ..values.version import client_version
from .attempts import CONNECTING_SECONDS

ERROR_DOMAIN = "thingsvision"
STATUS_KEY = "grpc-status-details-bin"  # gRPC's key for a google.rpc.Status


def _family(root: type[ThingsvisionError]) -> Iterator[type[ThingsvisionError]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


BY_REASON = {kind.__name__: kind for kind in _family(ThingsvisionError)}
"""Error classes by the server's ErrorInfo.reason, which is the name of the class."""

BY_CODE: dict[grpc.StatusCode, type[ThingsvisionError]] = {
    grpc.StatusCode.CANCELLED: errors.StoppedError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: errors.RefusedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.RefusedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnsupportedError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DATA_LOSS: errors.ChecksumError,
}
"""Error classes for a status without a known reason; any other code is a ServerError."""

ADVICE: dict[type[ThingsvisionError], str] = {
    errors.UnavailableError: (
        "No THINGSvision server answers at {address} ({text}). Start one with "
        "`thingsvision-server`, or name another with THINGSVISION_SERVER=host:port."
    ),
    errors.DeadlineError: "{address} did not answer within the timeout; give a longer one.",
    errors.StoppedError: "The call to {address} was cancelled before its end: {text}",
    errors.UnsupportedError: (
        "The server at {address} does not know this call ({text}): it is older than this client "
        "({version}), or not a THINGSvision server."
    ),
    errors.RefusedError: "The server at {address} refused the call: {text}",
    errors.ServerError: (
        "The server at {address} failed: {text}. Its log has the request id {request_id}."
    ),
}
"""Error texts for a status that gRPC or a proxy wrote, not the server."""

LOST = ADVICE | {
    errors.UnavailableError: (
        "The connection to {address} was lost before the reply was complete ({text}): make the "
        "call again."
    ),
}
"""Error texts for a call whose reply had begun."""

UNCONNECTED = ADVICE | {
    errors.DeadlineError: (
        "There was no connection to {address} within the timeout. Is a `thingsvision-server` "
        "running there, and does nothing block its port?"
    ),
}
"""Error texts for a call without a connection."""


def no_connection_error(address: str, request_id: str, *, hint: str = "") -> ThingsvisionError:
    """Return the error for a server that could not be connected to in the time for it."""
    text = f"no connection within {CONNECTING_SECONDS:g} s"
    message = ADVICE[errors.UnavailableError].format(address=address, text=text)
    return errors.UnavailableError(_with_hint(message, hint), request_id=request_id)


def to_error(
    error: grpc.RpcError,
    *,
    address: str,
    request_id: str,
    texts: Mapping[type[ThingsvisionError], str] = ADVICE,
    hint: str = "",
) -> ThingsvisionError:
    """Return the error to raise for a failed call to `address`.

    The server's reason decides, else the status code. `request_id` is the id that was sent; an id
    that the server returns takes precedence. A status that gRPC wrote gets its text from `texts`,
    with the sentence `hint` if it says that nothing answers.
    """
    if not isinstance(error, grpc.Call):
        return errors.ServerError(f"The call to {address} failed: {error}", request_id=request_id)
    request_id = _server_request_id(error) or request_id
    info = _error_info(error)
    text = error.details() or error.code().name
    by_code = BY_CODE.get(error.code(), errors.ServerError)
    if info is not None:  # the server's own sentence, even if its reason is newer than this
        kind = BY_REASON.get(info.reason, by_code)
        subject, field = info.metadata.get("subject", ""), info.metadata.get("field", "")
        return kind(text, request_id=request_id, subject=subject, field=field)
    message = texts.get(by_code, "{text}")
    message = message.format(
        address=address, text=text, request_id=request_id, version=client_version()
    )
    if by_code in (errors.UnavailableError, errors.DeadlineError):
        message = _with_hint(message, hint)
    return by_code(message, request_id=request_id)


def _with_hint(message: str, hint: str) -> str:
    return f"{message} {hint}" if hint else message


def _server_request_id(call: grpc.Call) -> str:
    pairs = [*(call.trailing_metadata() or ()), *(call.initial_metadata() or ())]
    found = [value for key, value in pairs if key == REQUEST_ID_KEY]
    return str(found[0]) if found else ""


def _error_info(call: grpc.Call) -> pb.ErrorInfo | None:
    packed: Any = dict(call.trailing_metadata() or ()).get(STATUS_KEY, b"")
    try:
        status = pb.ErrorStatus.FromString(packed)
        infos = [
            pb.ErrorInfo.FromString(detail.value)
            for detail in status.details
            if detail.type_url.endswith("/google.rpc.ErrorInfo")
        ]
    except DecodeError:
        return None
    if (status.code, status.message) != (call.code().value[0], call.details() or ""):
        return None  # details that contradict the status, e.g. from a proxy
    return next((info for info in infos if info.domain == ERROR_DOMAIN), None)
