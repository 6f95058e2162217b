"""The processor's cores, with a thread each that works alone; knows nothing of the work.

The threads within numpy and torch wait for one another after every product and every sum, and
spin while they wait. Pieces that a free thread takes next need no such meetings: it matters most
where others use the machine as well. Nor do sums depend on the number of cores.
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
    """Threads that take pieces of work, one after the other."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def each(self, function: Callable[..., T], pieces: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Yield function(*piece) of all pieces, in their order."""
        for future in [self._pool.submit(function, *piece) for piece in pieces]:
            yield future.result()


@contextmanager
def all_cores() -> Iterator[Cores]:
    """Give as many threads as numpy's products would use; on leaving, what is left is dropped."""
    with _limit_blas() as count, ThreadPoolExecutor(count, "cores", _use_one_thread) as pool:
        try:
            yield Cores(pool)
        finally:
            pool.shutdown(cancel_futures=True)


def _use_one_thread() -> None:
    """Have torch use no thread but the calling one in what this one asks for."""
    import torch

    torch.set_num_threads(1)


_lock = threading.Lock()
_inside: list[_BlasLimit] = []
"""The limit that holds, once for everyone who works now."""


@contextmanager
def _limit_blas() -> Iterator[int]:
    """Keep every product of numpy to the thread that asks for it, and yield the usual number.

    BLAS knows one number for the whole process: the first to come sets it, the last to leave
    sets it back. Where another library's thread holds the number, it stays, and 1 is yielded.
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


class _BlasLimit:
    """One thread in numpy's products until `close`."""

    def __init__(self) -> None:
        # threadpoolctl lets no other thread change the number while the first that did is alive:
        # ours is not that of a request, which outlives its work.
        self._keeper = ThreadPoolExecutor(1, "products")
        libraries = ThreadpoolController().select(user_api="blas")
        usual = _thread_count(libraries)
        self._limit = self._keeper.submit(libraries.limit, limits=1).result()
        self.count = usual if _thread_count(libraries) == 1 else 1

    def close(self) -> None:
        """Set the usual number of threads again."""
        self._keeper.submit(self._limit.restore_original_limits).result()
        self._keeper.shutdown()


def _thread_count(libraries: ThreadpoolController) -> int:
    return max((library.num_threads for library in libraries.lib_controllers), default=1)
