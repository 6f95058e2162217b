"""One call to a server, from its first request to its last reply, for any method."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from thingsvision_proto.model_id import ANY_MODEL

from ..display.progress import say
from ..errors import (
    CertificateError,
    StoppedError,
    ThingsvisionError,
    TooManyCallsError,
    UnauthenticatedError,
    UnavailableError,
)
from .attempts import ROOM_SECONDS, Attempts
from .channel import call_metadata, server_metadata, shard_metadata
from .link import Connecting, Link
from .outbox import Outbox
from .status import ADVICE, LOST, UNCONNECTED, has_lost_server, no_connection_error, to_error
from .tracing import method_name, trace_call
from .waits import is_wait

Replies = Generator[Any, None, None]

_TWICE = "Servers died while they had this call, which is not made again: it may be what ends them."


@dataclass(frozen=True)
class Caller:
    """Calls the methods of one server; `timeout_s` bounds each call from start to end.

    A call that fails with UNAVAILABLE before its first reply is made again, up to four times in
    all: the server was restarted, or the connection broke.
    """

    link: Link
    timeout_s: float | None = None
    destination: str = ""
    """The address of the only server of a cluster that may take the calls; empty: any."""
    shard: str = ""
    """Which part of a long extraction the calls are for; empty: for none."""
    lost_servers: int = 0
    """Servers that died while they had the same images."""

    @property
    def address(self) -> str:
        """The address of the server."""
        return self.link.route.address

    def ask(self, method: Any, request: Any, model_id: str = ANY_MODEL) -> Any:
        """Return the reply to one request. Raises ThingsvisionError."""
        (reply,) = self._replies(
            partial(method.future, request), model_id, method_name(method), read=_read_one
        )
        return reply

    def listen(self, method: Any, request: Any, model_id: str = ANY_MODEL) -> Replies:
        """Yield the replies to one request. Raises ThingsvisionError."""
        return self._replies(partial(method, request), model_id, method_name(method))

    def exchange(self, method: Any, requests: Iterable[Any], model_id: str = ANY_MODEL) -> Replies:
        """Yield the replies to a stream of requests, which is read as fast as it can be sent.

        Raises what `requests` raises, else ThingsvisionError. Closing the iterator ends the call.
        """
        outbox = Outbox(requests)
        start = partial(outbox.open, method)
        return self._replies(start, model_id, method_name(method), outbox=outbox)

    def _replies(
        self,
        start: Callable[..., Any],
        model_id: str,
        name: str,
        *,
        read: Callable[[Any], Iterator[Any]] = iter,
        outbox: Outbox[Any] | None = None,
    ) -> Replies:
        """Yield the replies to the calls that `start` makes, until an attempt has replies."""
        shown = self.link.credentials.metadata(self.link.route)
        with trace_call(name, model_id) as traced:
            destination = (*server_metadata(self.destination), *shard_metadata(self.shard))
            metadata = (*shown, *traced, *destination, *call_metadata(model_id))
            yield from self._attempts(start, metadata, read, outbox or Outbox(()))

    def _attempts(
        self,
        start: Callable[..., Any],
        metadata: tuple[tuple[str, str], ...],
        read: Callable[[Any], Iterator[Any]],
        outbox: Outbox[Any],
    ) -> Replies:
        attempts = Attempts(self.timeout_s, self.lost_servers)
        while True:
            try:
                call = self._start(partial(start, metadata=metadata), attempts)
                with closing(self._attempt(call, read, attempts, metadata[-1][1])) as replies:
                    for reply in replies:
                        if not is_wait(reply):
                            outbox.forget()
                        yield reply
            except UnavailableError as error:
                self.link.is_connected = False
                failure: BaseException = error
            except ThingsvisionError as error:
                if not isinstance(error, TooManyCallsError):
                    outbox.forget()
                failure = error
            else:
                return
            if not (outbox.may_repeat() and _wait(attempts, failure)):
                raise outbox.error or failure  # outside of `except` they keep their own cause

    def _start(self, start: Callable[..., Any], attempts: Attempts) -> Any:
        try:
            return start(timeout=attempts.left_seconds())
        except ValueError as error:  # gRPC has no class for it
            if "closed" not in str(error):
                raise
            raise StoppedError(f"The client of {self.address} was closed: make another.") from None

    def _attempt(
        self, call: Any, read: Callable[[Any], Iterator[Any]], attempts: Attempts, request_id: str
    ) -> Replies:
        """Yield the replies to `call`, and end it. Raises ThingsvisionError."""
        has_replied = False
        try:
            with self.link.limit_connecting(call, attempts) as connecting:
                for reply in read(call):
                    has_replied = self.link.is_connected = True
                    yield reply
        except grpc.RpcError as error:
            failure = self._failure(error, request_id, connecting, has_replied=has_replied)
            if self.link.is_connected:
                attempts.start_connecting()
            if has_lost_server(error) and attempts.note_lost_server():
                failure = failure.with_text(_TWICE)
            failure.lost_servers = attempts.lost_servers
            raise failure from None
        finally:
            call.cancel()

    def _failure(
        self, error: grpc.RpcError, request_id: str, connecting: Connecting, *, has_replied: bool
    ) -> ThingsvisionError:
        hint = "" if self.link.is_connected else self.link.route.advice()
        if connecting.has_expired:
            return no_connection_error(self.address, request_id, hint=hint)
        texts = LOST if has_replied else UNCONNECTED if connecting.is_missing else ADVICE
        failure = to_error(
            error, address=self.address, request_id=request_id, texts=texts, hint=hint
        )
        failure.reply_had_begun = has_replied
        if isinstance(failure, UnauthenticatedError):
            unsent = self.link.credentials.advice(self.link.route)
            return failure.with_text(unsent) if unsent else failure
        if isinstance(failure, UnavailableError) and not has_replied:
            fault = self.link.credentials.certificate_fault(self.link.route)
            return CertificateError(fault, request_id=request_id) if fault else failure
        return failure


def _wait(attempts: Attempts, failure: BaseException) -> bool:
    """Wait before another attempt, or return False if there is none."""
    if not isinstance(failure, TooManyCallsError):
        return attempts.wait_for_next()
    if not attempts.told:
        say(f"Waiting, up to {ROOM_SECONDS / 60:.0f} minutes: {failure}")
    return attempts.wait_for_room(failure.retry_seconds or 1.0)


def _read_one(call: Any) -> Iterator[Any]:
    """Yield the reply to the call of a method without streams."""
    try:
        yield call.result()
    except grpc.FutureCancelledError:
        raise call from None
