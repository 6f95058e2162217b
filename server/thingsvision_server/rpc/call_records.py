"""Writes what became of each call: a log line, metrics, and the audit log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from ..access.audit import AUDITED_METHODS, AuditLog
from ..access.person import Person
from ..access.sparing import Sparing
from ..errors import (
    DrainingError,
    ExhaustedError,
    PermissionDeniedError,
    ThingsvisionError,
    UnavailableError,
)
from ..monitoring.metrics import Metrics
from .status import shorten

_REFUSALS = (ExhaustedError, PermissionDeniedError, UnavailableError)
"""What the server refuses, or ends, for other reasons than what is asked for."""

_log = structlog.get_logger("thingsvision.request")


@dataclass
class Call:
    """One call as logs and metrics see it."""

    labels: tuple[str, str, str]
    request_id: str
    client: str
    client_version: str
    started: float
    person: Person | None = None
    received_count: int = 0
    sent_count: int = 0
    code: grpc.StatusCode = grpc.StatusCode.OK

    def describe(self) -> dict[str, Any]:
        """Return what a call in progress is."""
        return {
            "method": self.labels[2],
            "id": self.request_id,
            "client": self.client,
            "seconds": round(time.monotonic() - self.started, 1),
            "received": self.received_count,
            "sent": self.sent_count,
        }


class CallRecords:
    """Counts the server's calls, and writes a line about each that ends."""

    def __init__(self, metrics: Metrics, audit: AuditLog) -> None:
        self._metrics = metrics
        self._audit = audit
        self._refusals = Sparing()

    def begin(self, call: Call) -> None:
        """Count a call that has come in."""
        structlog.contextvars.clear_contextvars()
        self._metrics.grpc_started.labels(*call.labels).inc()

    @contextmanager
    def count_running(self, person: str) -> Iterator[None]:
        """Count a person's call in progress while the context lasts."""
        people = self._metrics.people
        people.add(person, call_count=1)
        try:
            yield
        finally:
            people.add(person, call_count=-1)

    def add_reply(self, call: Call, response: Any, seconds: float) -> None:
        """Count a reply of a call, which took so many seconds to write."""
        call.sent_count += 1
        if call.person is not None:
            size = len(response) if isinstance(response, bytes) else response.ByteSize()
            self._metrics.people.add(call.person.name, sent_bytes=size, stalled_seconds=seconds)

    def add_refusal(self, call: Call, error: ThingsvisionError) -> None:
        """Note why a call fails."""
        structlog.contextvars.bind_contextvars(
            error=type(error).__name__, detail=shorten(str(error))
        )
        if isinstance(error, DrainingError):
            self._metrics.rejected.labels("draining").inc()
        if call.person is not None and isinstance(error, _REFUSALS):
            self._metrics.people.add_refusal(call.person.name, type(error).__name__)

    def end(self, call: Call) -> None:
        """Count and log a call that has ended."""
        seconds, code = time.monotonic() - call.started, call.code.name
        metrics, labels = self._metrics, call.labels
        metrics.grpc_handled.labels(*labels, code).inc()
        metrics.grpc_seconds.labels(*labels, code).observe(seconds)
        metrics.grpc_received.labels(*labels).inc(call.received_count)
        metrics.grpc_sent.labels(*labels).inc(call.sent_count)
        unwritten = 0
        if call.person is None and call.code is grpc.StatusCode.UNAUTHENTICATED:
            found = self._refusals.take()
            if found is None:
                return  # a stranger with a loop would fill the log
            unwritten = found
        _log.info(
            call.labels[2],
            id=call.request_id,
            client=call.client,
            client_version=call.client_version,
            **({"person": call.person.name} if call.person and call.person.is_named else {}),
            status=code,
            seconds=round(seconds, 4),
            **({"unwritten_refusals": unwritten} if unwritten else {}),
        )
        self._write_audit(call)

    def _write_audit(self, call: Call) -> None:
        """Write who changed, or tried to change, what is on the server."""
        _, service, rpc = call.labels
        if call.person is not None and f"/{service}/{rpc}" in AUDITED_METHODS:
            self._audit.record(
                rpc,
                person=call.person.name,
                credential=call.person.credential,
                client=call.client,
                id=call.request_id,
                status=call.code.name,
                **structlog.contextvars.get_contextvars(),
            )
