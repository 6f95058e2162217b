"""A pool of single-threaded workers, one for each core of the processor.

The threads within numpy and torch wait for each other after every product and every sum, and spin
while they wait. Workers that each take the next free piece need no such synchronisation, which
matters most when others use the machine too. Sums then don't depend on the number of cores either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")


class Cores:
    """Threads that each take the next free piece of work."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def each(self, function: Callable[..., T], pieces: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Yield function(*piece) for all pieces, in order."""
        for future in [self._pool.submit(function, *piece) for piece in pieces]:
            yield future.result()


@contextmanager
def all_cores() -> Iterator[Cores]:
    """Yield as many threads as numpy's products would use; on exit, drop the remaining pieces."""
    with _limit_blas() as count, ThreadPoolExecutor(count, "cores", _use_one_thread) as pool:
        try:
            yield Cores(pool)
        finally:
            pool.shutdown(cancel_futures=True)


def _use_one_thread() -> None:
    """Make torch run the operations of this thread in this thread alone."""
    import torch

    torch.get_num_threads()  # else the first operation takes the last number of any thread
    torch.set_num_threads(1)


_lock = threading.Lock()
_inside: list[_BlasLimit] = []
"""The limit in force, once for each computation that is running."""


@contextmanager
def _limit_blas() -> Iterator[int]:
    """Limit every product of numpy to the calling thread, and yield the usual number of threads.

    BLAS has one number for the whole process: the first computation sets it, and the last one
    restores it. If a thread of another library holds the number, it stays, and 1 is yielded.
    """
    with _lock:
        limit = _inside[0] if _inside else _BlasLimit()
        _inside.append(limit)
    try:
        yield limit.count
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                limit.close()


def blas_thread_count() -> int:
    """Return how many threads numpy's products use, where no computation limits them."""
    with _lock:
        if _inside:
            return _inside[0].count
    return _thread_count(ThreadpoolController().select(user_api="blas"))


class _BlasLimit:
    """A limit of one thread for numpy's products, until `close`."""

    def __init__(self) -> None:
        # threadpoolctl lets no other thread change the number while the thread that set it is
        # alive, and a request's thread outlives the computation: use a thread of its own.
        self._keeper = ThreadPoolExecutor(1, "products")
        libraries = ThreadpoolController().select(user_api="blas")
        usual = _thread_count(libraries)
        self._limit = self._keeper.submit(libraries.limit, limits=1).result()
        self.count = usual if _thread_count(libraries) == 1 else 1

    def close(self) -> None:
        """Restore the usual number of threads."""
        self._keeper.submit(self._limit.restore_original_limits).result()
        self._keeper.shutdown()


def _thread_count(libraries: ThreadpoolController) -> int:
    return max((library.num_threads for library in libraries.lib_controllers), default=1)
