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
        self._is_repeatable = True
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
            self._is_repeatable = False
            self._drop_sent()

    def may_repeat(self) -> bool:
        """End the attempt, and return whether another attempt can send all its requests."""
        with self._state:
            self._attempt = None
            return self._is_repeatable and self.error is None

    def take(self, attempt: _Attempt[Request]) -> Request:
        """Return the next request of an attempt. Raises StopIteration at the end or on failure."""
        while True:
            with self._state:
                if attempt is not self._attempt:
                    raise StopIteration
                if attempt.place < self._made_count:
                    return self._send_kept(attempt)
                if self._has_ended:
                    raise StopIteration
            with self._making:
                if attempt.place >= self._made_count and not self._has_ended:
                    self._make()

    @property
    def _made_count(self) -> int:
        return self._first_kept + len(self._kept)

    def _send_kept(self, attempt: _Attempt[Request]) -> Request:
        request = self._kept[attempt.place - self._first_kept]
        attempt.place += 1
        if not self._is_repeatable:
            self._drop_sent()
        return request

    def _drop_sent(self) -> None:
        if self._attempt is not None:
            del self._kept[: self._attempt.place - self._first_kept]
            self._first_kept = self._attempt.place

    def _make(self) -> None:
        try:
            request: Any = next(self._requests)
        except BaseException as error:
            self.error = None if isinstance(error, StopIteration) else error
            self._has_ended = True
            return
        with self._state:
            self._kept.append(request)
            if self._is_repeatable:
                self._kept_bytes += request.ByteSize()
                self._is_repeatable = self._kept_bytes <= _KEPT_BYTES


class _Attempt(Iterator[Request]):
    """The requests of one attempt; it has sent those before `place`."""

    def __init__(self, outbox: Outbox[Request]) -> None:
        self.place = 0
        self._outbox = outbox
        self._call: Any = None
        self._has_call = threading.Event()

    def __next__(self) -> Request:
        try:
            return self._outbox.take(self)
        except StopIteration:
            if self._outbox.error is not None:
                self._has_call.wait()
                self._call.cancel()
            raise

    def attach(self, call: Any) -> None:
        """Set the call that takes the requests, which is cancelled if making one fails."""
        self._call = call
        self._has_call.set()
