"""Turns errors into statuses with `google.rpc` details, by one table from class to code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import ceil

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from ..errors import (
    ChecksumError,
    DeviceLostError,
    ExhaustedError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    ThingsvisionError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)

DOMAIN = "thingsvision"
DETAILS_KEY = "grpc-status-details-bin"
RETRY_SECONDS = 5

_SENTENCE_BYTES = 1000
_NAME_BYTES = 120
"""Statuses travel as HTTP/2 trailers, of which stock clients accept 8 KiB; these contain the
sentence three times, with up to three characters per byte, and each name twice."""

_QUOTED = re.compile(r"(?<!\w)(['\"])(.*?)\1(?!\w)", re.DOTALL)
_QUOTED_CHARACTERS = 200
"""Longer quoted values are cut, so that what a user can do about them is not."""

_CUT = " ... (the server's log has the rest)"

CODES: Mapping[type[ThingsvisionError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    # Not UNAVAILABLE, which clients repeat at once: this call may be what broke the device.
    DeviceLostError: grpc.StatusCode.INTERNAL,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    ChecksumError: grpc.StatusCode.DATA_LOSS,
}
"""The code of a class and of its subclasses; found by the method resolution order."""


def code_of(error: type[ThingsvisionError]) -> grpc.StatusCode:
    """Return the status code of an error's class; StopIteration if the table has none."""
    return next(CODES[base] for base in error.__mro__ if base in CODES)


def status_of(error: ThingsvisionError) -> tuple[grpc.StatusCode, Status]:
    """Return the code, and the status with ErrorInfo and the details of that code."""
    code = code_of(type(error))
    metadata = {"field": _name(error.field), "subject": _name(error.subject)}
    info = details.ErrorInfo(reason=type(error).__name__, domain=DOMAIN, metadata=metadata)
    return code, _status(code, _short(error), info, *_DETAILS.get(code, _no_details)(error))


def internal_status(request_id: str) -> tuple[grpc.StatusCode, Status]:
    """Return the status of a bug of ours; the request's id finds the bug in the server's log."""
    sentence = f"the server failed; its log has the reason under request id {request_id}"
    info = details.ErrorInfo(reason="InternalError", domain=DOMAIN)
    request = details.RequestInfo(request_id=request_id)
    code = grpc.StatusCode.INTERNAL
    return code, _status(code, sentence, info, request)


def shorten(sentence: str) -> str:
    """Return a sentence with every long quoted value cut; it names how long the value is."""
    return _QUOTED.sub(_shorten_value, sentence)


def _shorten_value(quoted: re.Match[str]) -> str:
    mark, value = quoted.groups()
    if len(value) <= _QUOTED_CHARACTERS:
        return quoted.group()
    start, end = value[: _QUOTED_CHARACTERS // 2], value[-_QUOTED_CHARACTERS // 4 :]
    return f"{mark}{start} ... {end}{mark} ({len(value):,} characters)"


def _short(error: ThingsvisionError) -> str:
    return _cut(shorten(str(error)), _SENTENCE_BYTES, _CUT)


def _name(text: str) -> str:
    return _cut(text, _NAME_BYTES, " ...")


def _cut(text: str, most_bytes: int, mark: str) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= most_bytes:
        return encoded.decode()
    return encoded[: most_bytes - len(mark)].decode(errors="ignore") + mark


def _status(code: grpc.StatusCode, sentence: str, *extra: Message) -> Status:
    packed = []
    for message in extra:
        packed.append(AnyMessage())
        packed[-1].Pack(message)
    return Status(code=code.value[0], message=sentence, details=packed)


def _no_details(_error: ThingsvisionError) -> list[Message]:
    return []


def _bad_request(error: ThingsvisionError) -> list[Message]:
    field, sentence = _name(error.field), _short(error)
    violation = details.BadRequest.FieldViolation(field=field, description=sentence)
    return [details.BadRequest(field_violations=[violation])]


def _resource(error: ThingsvisionError) -> list[Message]:
    kind, name = _name(error.field) or "resource", _name(error.subject)
    return [details.ResourceInfo(resource_type=kind, resource_name=name, description=_short(error))]


def _precondition(error: ThingsvisionError) -> list[Message]:
    violation = details.PreconditionFailure.Violation(
        type=type(error).__name__, subject=_name(error.subject), description=_short(error)
    )
    return [details.PreconditionFailure(violations=[violation])]


def _quota(error: ThingsvisionError) -> list[Message]:
    subject = _name(error.subject or error.field)
    violation = details.QuotaFailure.Violation(subject=subject, description=_short(error))
    return [details.QuotaFailure(violations=[violation]), *_retry(error.retry_seconds)]


def _unavailable(error: ThingsvisionError) -> list[Message]:
    return _retry(error.retry_seconds or RETRY_SECONDS)


def _retry(seconds: float) -> list[Message]:
    """Return when to try again; nothing, if that does not help or is not known."""
    delay = Duration(seconds=ceil(seconds))
    return [details.RetryInfo(retry_delay=delay)] if seconds else []


_DETAILS: Mapping[grpc.StatusCode, Callable[[ThingsvisionError], list[Message]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: _bad_request,
    grpc.StatusCode.NOT_FOUND: _resource,
    grpc.StatusCode.FAILED_PRECONDITION: _precondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: _quota,
    grpc.StatusCode.UNAVAILABLE: _unavailable,
}
