"""A pool of threads whose work is shared over people, then over their requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from ...threads import start_threads
from .order import Account, FairOrder, OnUsed, Rank, count_nothing

T = TypeVar("T")

_Work = tuple["Future[Any]", Callable[[], Any]]


@dataclass(eq=False)
class _Queue:
    """The work of one request that has not begun."""

    person: str
    number: int
    account: Account | None = None
    """Open while work may come or waits: also for work that a closed request still submits."""
    work: deque[_Work] = field(default_factory=deque)
    expected_seconds: float = 0.0
    """What its last piece of work took."""
    is_closed: bool = False
    """Whether its context has ended."""


class FairPool:
    """Runs work in threads; who has used the fewest seconds of them comes next."""

    def __init__(
        self,
        threads: int,
        name: str,
        initializer: Callable[[], None] | None = None,
        *,
        on_used: OnUsed = count_nothing,
    ) -> None:
        self._on_used = on_used
        self._threads = ThreadPoolExecutor(threads, name, initializer)
        start_threads(self._threads, threads)
        self._order = FairOrder()
        self._queues: dict[int, _Queue] = {}
        self._count = 0
        self._lock = threading.Lock()

    @contextmanager
    def open(self, person: str) -> Iterator[Callable[[Callable[[], Any]], asyncio.Future[Any]]]:
        """Yield a function that submits a request's work and returns its future, in an event loop.

        Work of which nobody waits for the future any more is dropped if it has not begun.
        """
        with self._lock:
            self._count += 1
            queue = _Queue(person, self._count, self._order.open(person))
        try:
            yield partial(self._submit, queue)
        finally:
            with self._lock:
                queue.is_closed = True
                self._close_if_done(queue)

    async def run(self, person: str, work: Callable[[], T]) -> T:
        """Run a single piece of work of a person."""
        with self.open(person) as submit:
            result: T = await submit(work)
            return result

    def close(self) -> None:
        """Shut the threads down; work that has not begun is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for queue in self._queues.values():
                for future, _ in queue.work:
                    future.cancel()
            self._queues.clear()

    def _submit(self, queue: _Queue, work: Callable[[], T]) -> asyncio.Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if queue.account is None:
                queue.account = self._order.open(queue.person)
            queue.work.append((future, work))
            self._queues[queue.number] = queue
        # The threads know nothing of whose turn it is: each time, the next runs what is due.
        self._threads.submit(self._run_next)
        return asyncio.wrap_future(future)

    def _run_next(self) -> None:
        """Run the work that is due, if it was not cancelled."""
        with self._lock:
            queue = self._due()
            future, work = queue.work.popleft()
            if not queue.work:
                del self._queues[queue.number]
            if not future.set_running_or_notify_cancel():
                self._close_if_done(queue)
                return
            account, expected = self._account(queue), queue.expected_seconds
            self._order.begin(account, expected)
            self._close_if_done(queue)
        started = time.monotonic()
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # it is raised where the future is awaited
            error = raised
        taken = time.monotonic() - started
        with self._lock:
            queue.expected_seconds = taken
            self._order.end(account, taken - expected)
        self._on_used(queue.person, taken)
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _close_if_done(self, queue: _Queue) -> None:
        """Close the account of a request whose work has all begun: earlier, nobody is charged."""
        if queue.is_closed and not queue.work and queue.account is not None:
            self._order.close(queue.account)
            queue.account = None

    def _due(self) -> _Queue:
        """Return the queue whose work comes next."""
        if len(self._queues) == 1:
            return next(iter(self._queues.values()))
        return min(self._queues.values(), key=self._rank)

    def _rank(self, queue: _Queue) -> tuple[Rank, int]:
        return self._order.rank(self._account(queue)), queue.number

    def _account(self, queue: _Queue) -> Account:
        if queue.account is None:
            raise RuntimeError("work waits in a queue without an account")
        return queue.account
