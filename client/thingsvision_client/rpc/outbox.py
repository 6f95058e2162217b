"""The requests of a streaming call, which a further attempt sends again from the first on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

Request = TypeVar("Request")

_KEPT_BYTES = 64 * 1024 * 1024
"""The size of the largest message; requests beyond it are not kept for another attempt."""


class Outbox(Generic[Request]):
    """Takes requests one by one, as gRPC's thread of an attempt asks for them.

    A failure while making one ends the call and is kept as `error`: gRPC would print it and
    report a status that says nothing.
    """

    def __init__(self, requests: Iterable[Request]) -> None:
        self.error: BaseException | None = None
        self.is_repeatable = True
        self._requests = iter(requests)
        self._has_ended = False
        self._kept: list[Request] = []
        self._kept_bytes = 0
        self._first_kept = 0
        self._attempt: _Attempt[Request] | None = None
        self._state = threading.Lock()
        # Held while a request is made, which may wait for a reply. The thread of an attempt that
        # failed can still hold it: what it makes then is for the attempt after it.
        self._making = threading.Lock()

    def open(self, method: Any, **options: Any) -> Any:
        """Return the call of `method` that sends all requests from the first on."""
        attempt = _Attempt(self)
        with self._state:
            self._attempt = attempt
        call = method(attempt, **options)
        attempt.attach(call)
        return call

    def forget(self) -> None:
        """Keep no request that was sent from now on: there will not be another attempt."""
        with self._state:
            self.is_repeatable = False

    def take(self, attempt: _Attempt[Request], place: int) -> Request:
        """Return the request at that place. Raises StopIteration at the end or after a failure."""
        while True:
            with self._state:
                if attempt is not self._attempt:
                    raise StopIteration
                if place < self._made_count:
                    return self._kept_at(place)
                if self._has_ended:
                    raise StopIteration
            with self._making:
                if place >= self._made_count and not self._has_ended:
                    self._make()

    @property
    def _made_count(self) -> int:
        return self._first_kept + len(self._kept)

    def _kept_at(self, place: int) -> Request:
        request = self._kept[place - self._first_kept]
        if not self.is_repeatable:
            del self._kept[: place + 1 - self._first_kept]
            self._first_kept = place + 1
        return request

    def _make(self) -> None:
        try:
            request: Any = next(self._requests)
        except BaseException as error:
            self.error = None if isinstance(error, StopIteration) else error
            self._has_ended = True
            return
        with self._state:
            self._kept.append(request)
            if self.is_repeatable:
                self._kept_bytes += request.ByteSize()
                self.is_repeatable = self._kept_bytes <= _KEPT_BYTES


class _Attempt(Iterator[Request]):
    """The requests of one attempt."""

    def __init__(self, outbox: Outbox[Request]) -> None:
        self._outbox = outbox
        self._place = 0
        self._call: Any = None
        self._has_call = threading.Event()

    def __next__(self) -> Request:
        try:
            request = self._outbox.take(self, self._place)
        except StopIteration:
            if self._outbox.error is not None:
                self._has_call.wait()
                self._call.cancel()
            raise
        self._place += 1
        return request

    def attach(self, call: Any) -> None:
        """Set the call that takes the requests, which is cancelled if making one fails."""
        self._call = call
        self._has_call.set()
