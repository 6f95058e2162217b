"""Turns errors of gRPC into errors of this package; the only place that reads statuses."""

from __future__ import annotations

import re
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
from .tls_faults import certificate_fault, closed_sentence

ERROR_DOMAIN = "thingsvision"
_UNREACHED = re.compile(
    r"^failed to connect to all addresses; last error: [A-Z_]+: \S+ "
    r"(?:Failed to connect to remote host: )?"
    r"|^errors resolving [^[]*\[field:hostname lookup error:address lookup failed for \S+ "
    r"|(?<=not found)\]$"
)
"""What gRPC says before the reason why nothing answers."""

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
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnsupportedError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DATA_LOSS: errors.ChecksumError,
    grpc.StatusCode.INTERNAL: errors.ServerError,
}
"""Error classes for a status without a known reason; any other code is a ServerError."""

_OF_THE_WAY = frozenset(
    (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    )
)
"""What gRPC, a proxy or a gateway says when a connection breaks, or the server behind it dies."""

_OWN_TEXTS = re.compile(r"Locally cancelled|Channel closed|Exception \w+ (?:request|response)")
"""What the details of statuses say that gRPC's library in this process made itself."""

_SERVER_LOST = re.compile(
    r"reset before headers.*(?:connection termination|remote reset)"
    r"|Received RST_STREAM with error code 2"
)
"""What a gateway says of a call that a server had when it died."""

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
    errors.PermissionDeniedError: "The server at {address} refused the call: {text}",
    errors.UnauthenticatedError: "The server at {address} does not know who calls: {text}",
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


def has_lost_server(error: grpc.RpcError) -> bool:
    """Return whether a gateway says that the server died which had the call."""
    if not isinstance(error, grpc.Call) or _server_request_id(error):
        return False
    return bool(_SERVER_LOST.search(error.details() or ""))


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
    with the sentence `hint` if it says that nothing answers. A failure without the server's id
    comes from the way to it: UnavailableError, whatever the code that a gateway chose.
    """
    if not isinstance(error, grpc.Call):
        return errors.ServerError(f"The call to {address} failed: {error}", request_id=request_id)
    server_id = _server_request_id(error)
    request_id = server_id or request_id
    info, retry_seconds = _details(error)
    text = error.details() or error.code().name
    by_code = BY_CODE.get(error.code(), errors.ServerError)
    if not server_id and error.code() in _OF_THE_WAY and not _OWN_TEXTS.search(text):
        by_code = errors.UnavailableError
    if info is not None:  # the server's own sentence, even if its reason is newer than this
        known = _known_error(info, by_code, text, request_id=request_id)
        known.retry_seconds = retry_seconds
        return known
    if by_code is errors.UnavailableError:
        if fault := certificate_fault(address, text):
            return errors.CertificateError(fault, request_id=request_id)
        told = _UNREACHED.sub("", text)
        if texts is not LOST and (closed := closed_sentence(address, told)):
            return errors.UnavailableError(_with_hint(closed, hint), request_id=request_id)
    fields = {"address": address, "text": _UNREACHED.sub("", text), "request_id": request_id}
    message = texts.get(by_code, "{text}").format(**fields, version=client_version())
    if by_code in (errors.UnavailableError, errors.DeadlineError):
        message = _with_hint(message, hint)
    return by_code(message, request_id=request_id)


def _known_error(
    info: pb.ErrorInfo, by_code: type[ThingsvisionError], text: str, *, request_id: str
) -> ThingsvisionError:
    """Return the error that the server named, in its words."""
    kind = BY_REASON.get(info.reason, by_code)
    subject, field = info.metadata.get("subject", ""), info.metadata.get("field", "")
    return kind(text, request_id=request_id, subject=subject, field=field)


def _with_hint(message: str, hint: str) -> str:
    return f"{message} {hint}" if hint else message


def _server_request_id(call: grpc.Call) -> str:
    pairs = [*(call.trailing_metadata() or ()), *(call.initial_metadata() or ())]
    found = [value for key, value in pairs if key == REQUEST_ID_KEY]
    return str(found[0]) if found else ""


def _details(call: grpc.Call) -> tuple[pb.ErrorInfo | None, float]:
    """Return what a server says about its error, and in how many seconds a call may succeed."""
    packed: Any = dict(call.trailing_metadata() or ()).get(STATUS_KEY, b"")
    try:
        status = pb.ErrorStatus.FromString(packed)
        infos = _unpack(status, "ErrorInfo", pb.ErrorInfo)
        retries = _unpack(status, "RetryInfo", pb.RetryInfo)
    except DecodeError:
        return None, 0.0
    if (status.code, status.message) != (call.code().value[0], call.details() or ""):
        return None, 0.0  # details that contradict the status, e.g. from a proxy
    delays = (one.retry_delay.seconds + one.retry_delay.nanos / 1e9 for one in retries)
    return next((info for info in infos if info.domain == ERROR_DOMAIN), None), next(delays, 0.0)


def _unpack(status: pb.ErrorStatus, name: str, kind: Any) -> list[Any]:
    of_kind = (one for one in status.details if one.type_url.endswith(f"/google.rpc.{name}"))
    return [kind.FromString(one.value) for one in of_kind]
