"""The processor's cores, with a thread each that works alone; knows nothing of the work.

The threads within numpy and torch wait for one another after every product and every sum, and
spin while they wait. Pieces that a free thread takes next need no such meetings: it matters most
where others use the machine as well. Nor do sums depend on the number of cores.
"""

from __future__ import annotations

import os
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
    with _products_alone() as count, ThreadPoolExecutor(count, "cores", _be_alone) as pool:
        try:
            yield Cores(pool)
        finally:
            pool.shutdown(cancel_futures=True)


def _be_alone() -> None:
    """Have torch use no thread but the calling one in what this one asks for."""
    import torch

    torch.set_num_threads(1)


_lock = threading.Lock()
_inside: list[tuple[Any, int]] = []
"""The limit that holds and the usual number of threads, once for everyone who works now."""


@contextmanager
def _products_alone() -> Iterator[int]:
    """Keep every product of numpy to the thread that asks for it, and yield the usual number.

    BLAS knows one number for the whole process: the first to come sets it, the last to leave
    sets it back.
    """
    with _lock:
        _inside.append(_inside[-1] if _inside else _limit())
    try:
        yield _inside[-1][1]
    finally:
        with _lock:
            limit, _ = _inside.pop()
            if not _inside:
                limit.restore_original_limits()


def _limit() -> tuple[Any, int]:
    libraries = ThreadpoolController().select(user_api="blas")
    usual = [library.num_threads for library in libraries.lib_controllers]
    return libraries.limit(limits=1), max(usual, default=os.cpu_count() or 1)
