"""Lends the host's memory for batches on their way to a device, and for rows on their way back.

Memory for a GPU is pinned, so that copies run beside the passes; to pin it takes longer than to
copy a batch. Memory that is given back is lent again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Memory = npt.NDArray[np.uint8]

_ALIGNMENT = 64
"""Bytes, as PyTorch's own: products of other alignments may differ in their last bits."""
_LEAST_BYTES = 2**12


def plain_memory(size_bytes: int) -> Memory:
    """Return ordinary memory, aligned."""
    memory = np.empty(size_bytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size_bytes]


class StagingPool:
    """Memory of at most `limit_bytes`, lent or free, in blocks of powers of two; threads share it.

    What does not fit is ordinary memory, which the pool does not keep.
    """

    def __init__(
        self, limit_bytes: int = 0, allocate: Callable[[int], Memory] = plain_memory
    ) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        """Bytes of all blocks, lent and free."""
        self._allocate = allocate
        self._free: OrderedDict[int, list[Memory]] = OrderedDict()
        self._returned: deque[Memory] = deque()
        self._lock = threading.Lock()

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """Return an array with any values; its memory returns when no array refers to it."""
        wanted = np.dtype(dtype)
        size_bytes = prod(shape) * wanted.itemsize
        memory: Array | None = self._lend(size_bytes)
        if memory is None:
            memory = plain_memory(size_bytes)
        return memory[:size_bytes].view(wanted).reshape(shape)

    def give_back(self, memory: Memory) -> None:
        """Take a block back; any thread may call this, at any time."""
        # Without the lock: the collector of garbage calls this, also inside `_lend`.
        self._returned.append(memory)

    def trim(self) -> None:
        """Free the memory that is not lent."""
        with self._lock:
            self._collect()
            self._make_room(self.held_bytes)

    def _lend(self, size_bytes: int) -> Array | None:
        block_bytes = max(_LEAST_BYTES, 1 << max(0, size_bytes - 1).bit_length())
        with self._lock:
            self._collect()
            blocks = self._free.get(block_bytes)
            if blocks:
                return np.asarray(_Lent(self, blocks.pop()))
            self._make_room(self.held_bytes + block_bytes - self.limit_bytes)
            if self.held_bytes + block_bytes > self.limit_bytes:
                return None
            self.held_bytes += block_bytes
        try:
            return np.asarray(_Lent(self, self._allocate(block_bytes)))
        except BaseException:
            with self._lock:
                self.held_bytes -= block_bytes
            raise

    def _collect(self) -> None:
        """Sort the blocks that came back; sizes that were used last are freed last."""
        while self._returned:
            memory = self._returned.popleft()
            self._free.setdefault(memory.nbytes, []).append(memory)
            self._free.move_to_end(memory.nbytes)

    def _make_room(self, size_bytes: int) -> None:
        """Free blocks that are not lent until so many bytes are free, or none are left."""
        while size_bytes > 0 and self._free:
            block_bytes, blocks = next(iter(self._free.items()))
            if not blocks:
                del self._free[block_bytes]
                continue
            del blocks[-1]
            self.held_bytes -= block_bytes
            size_bytes -= block_bytes


class _Lent:
    """A lent block, which all arrays in its memory refer to, as NumPy's protocol says."""

    def __init__(self, pool: StagingPool, memory: Memory) -> None:
        self._pool, self._memory = pool, memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._pool.give_back(self._memory)


_Pool = TypeVar("_Pool", bound=StagingPool)


class _Staging:
    """The pool of this process."""

    pool: StagingPool = StagingPool()


def staging() -> StagingPool:
    """Return the pool of this process."""
    return _Staging.pool


@contextmanager
def use_staging(pool: _Pool) -> Iterator[_Pool]:
    """Make this the pool of the process, and restore the former on exit."""
    before, _Staging.pool = _Staging.pool, pool
    try:
        yield pool
    finally:
        _Staging.pool = before
