"""Starts threads: ahead of the work of a pool, or with it, to end with it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, MutableMapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def _do_nothing() -> None:
    """Prepare nothing."""


def start_threads(
    pool: ThreadPoolExecutor, count: int, prepare: Callable[[], object] = _do_nothing
) -> None:
    """Start all threads of a pool, and `prepare` each; raise RuntimeError if there are no more.

    A pool starts each thread with a piece of work while all others work. A system without threads
    would fail that piece, and with it a call that needs no more than the server has.
    """
    started = threading.Event()

    def begin() -> None:
        try:
            prepare()
        finally:
            started.wait()

    try:
        begun = [pool.submit(begin) for _ in range(count)]
    finally:
        started.set()
    for one in begun:
        one.result()


class BriefThreads(Executor):
    """Runs work in threads that end when no more work waits.

    A pool would keep as many as there ever were, each with the team of threads that libraries gave
    it, one for each core. `prepare` is called in the thread before each piece of work.
    """

    def __init__(self, most: int, name: str, prepare: Callable[[], object] = _do_nothing) -> None:
        self._most, self._name, self._prepare = most, name, prepare
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._count = 0
        self._lock = threading.Lock()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in a thread; raise RuntimeError if there are no more threads."""
        future: Future[T] = Future()
        with self._lock:
            if self._count < self._most:
                threading.Thread(target=self._run, name=self._name).start()
                self._count += 1
            self._work.append((future, partial(function, *args, **kwargs)))
        return future

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            self._do(*waiting)
            del waiting  # or its result would stay while more work is done

    def _do(self, future: Future[Any], work: Callable[[], Any]) -> None:
        """Do work, unless its future is cancelled, and give the future what comes of it."""
        if not future.set_running_or_notify_cancel():
            return
        try:
            self._prepare()
            result = work()
        except BaseException as error:  # it is raised where the future is awaited
            future.set_exception(error)
        else:
            future.set_result(result)

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._lock:
            if self._work:
                return self._work.popleft()
            self._count -= 1
            return None


def keep_threads_over_forks(environment: MutableMapping[str, str]) -> None:
    """Have gRPC leave its threads alone when the process forks; call it before gRPC is imported.

    Around a fork, gRPC ends its threads and starts them anew: calls wait meanwhile, and the process
    dies if there are no threads to be had. The server's forks become other programs at once.
    """
    environment.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def check_threads(count: int) -> None:
    """Raise RuntimeError if this process can't start so many more threads now.

    OpenMP ends the whole process if it can't.
    """
    over = threading.Event()
    started: list[threading.Thread] = []
    try:
        for number in range(count):
            thread = threading.Thread(target=over.wait, name=f"check-{number}", daemon=True)
            thread.start()
            started.append(thread)
    finally:
        over.set()
        for thread in started:
            thread.join()
