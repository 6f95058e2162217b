"""One call to a server, from its first request to its last reply, for any method."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from thingsvision_proto.model_id import ANY_MODEL

from .channel import call_metadata
from .status import to_error

Request = TypeVar("Request")


class Outbox(Generic[Request]):
    """The requests of a stream, which a thread of gRPC takes one by one.

    A failure while making one ends the call and is kept as `error`: gRPC would print it and
    report a status that says nothing.
    """

    def __init__(self, requests: Iterable[Request]) -> None:
        self.error: BaseException | None = None
        self._requests = requests
        self._call: Any = None
        self._has_call = threading.Event()

    def __iter__(self) -> Iterator[Request]:
        try:
            yield from self._requests
        except BaseException as error:
            if isinstance(error, GeneratorExit):
                raise
            self.error = error
            self._has_call.wait()
            self._call.cancel()

    def attach(self, call: Any) -> None:
        """Set the call that takes the requests, which is cancelled if making one fails."""
        self._call = call
        self._has_call.set()


@dataclass(frozen=True)
class Caller:
    """Calls the methods of one server; `timeout_s` bounds each call from start to end."""

    address: str
    timeout_s: float | None = None

    def ask(self, method: Any, request: Any, model_id: str = ANY_MODEL) -> Any:
        """Return the reply to one request. Raises ThingsvisionError."""
        metadata = call_metadata(model_id)
        try:
            return method(request, metadata=metadata, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise self._error(error, metadata) from None

    def listen(self, method: Any, request: Any, model_id: str = ANY_MODEL) -> Iterator[Any]:
        """Yield the replies to one request. Raises ThingsvisionError."""
        metadata = call_metadata(model_id)
        call = method(request, metadata=metadata, timeout=self.timeout_s)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._error(error, metadata) from None
        finally:
            call.cancel()

    def exchange(
        self, method: Any, requests: Iterable[Any], model_id: str = ANY_MODEL
    ) -> Generator[Any, None, None]:
        """Yield the replies to a stream of requests, which is read as fast as it can be sent.

        Raises what `requests` raises, else ThingsvisionError. Closing the iterator ends the call.
        """
        metadata, outbox = call_metadata(model_id), Outbox(requests)
        call = method(iter(outbox), metadata=metadata, timeout=self.timeout_s)
        outbox.attach(call)
        try:
            yield from call
        except grpc.RpcError as error:
            failure: BaseException | None = outbox.error or self._error(error, metadata)
        else:
            failure = None
        finally:
            call.cancel()
        if failure is not None:
            raise failure  # outside of `except` it keeps its own cause

    def _error(self, error: grpc.RpcError, metadata: Any) -> Exception:
        return to_error(error, address=self.address, request_id=metadata[-1][1])
