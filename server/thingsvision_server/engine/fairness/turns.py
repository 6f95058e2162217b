"""Shares long computations over people: few run at a time, and pause between their blocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from ...threads import BriefThreads
from .order import Account, FairOrder, OnUsed, count_nothing

_LOOK_SECONDS = 0.2
"""How long a computation that waits for its turn may take to notice that it is cancelled."""
_MOST_THREADS = 128
"""Each computation that has begun, or waits to begin, has a thread."""


class CancelledWorkError(Exception):
    """Nobody waits for the computation any more."""


@dataclass
class _Turn:
    """A computation's turn, and when it began; None: it waits for the next."""

    person: str
    account: Account
    cancelled: threading.Event
    started: float | None = None


class Turns:
    """Lets `width` computations run at a time; who has used the fewest seconds goes on.

    Two at a time use the machine best: each has parts that run in a single thread.
    """

    def __init__(
        self,
        width: int = 2,
        prepare: Callable[[], object] = lambda: None,
        *,
        on_used: OnUsed = count_nothing,
    ) -> None:
        self._on_used = on_used
        self.threads = BriefThreads(_MOST_THREADS, "analysis", prepare)
        self._width = width
        self._order = FairOrder()
        self._running = 0
        self._waiting: list[Account] = []
        self._changed = threading.Condition()

    @contextmanager
    def take(self, person: str, cancelled: threading.Event) -> Iterator[Callable[[], None]]:
        """Wait for a turn; yield a function to call between blocks, which may wait for the next.

        Raises CancelledWorkError if the computation is cancelled while it waits.
        """
        with self._changed:
            turn = _Turn(person, self._order.open(person), cancelled)
        try:
            self._begin(turn)
            yield partial(self._pause, turn)
        finally:
            self._end(turn)
            with self._changed:
                self._order.close(turn.account)

    def _begin(self, turn: _Turn) -> None:
        with self._changed:
            self._wait(turn.account, turn.cancelled)
            self._running += 1
            self._order.begin(turn.account, 0)
            turn.started = time.monotonic()

    def _end(self, turn: _Turn) -> None:
        with self._changed:
            if turn.started is not None:
                self._running -= 1
                taken = time.monotonic() - turn.started
                self._order.end(turn.account, taken)
                self._on_used(turn.person, taken)
                turn.started = None
                self._changed.notify_all()

    def _pause(self, turn: _Turn) -> None:
        if self._waiting:
            self._end(turn)
            self._begin(turn)

    def _wait(self, account: Account, cancelled: threading.Event) -> None:
        """Wait until a turn is free, and this request is the one that it is due to."""
        self._waiting.append(account)
        try:
            while self._running == self._width or self._first() is not account:
                if cancelled.is_set():
                    raise CancelledWorkError
                self._changed.wait(_LOOK_SECONDS)
        finally:
            self._waiting.remove(account)
            self._changed.notify_all()

    def _first(self) -> Account:
        return min(self._waiting, key=self._order.rank)
