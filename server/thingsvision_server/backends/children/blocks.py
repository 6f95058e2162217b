"""Blocks of memory that the server and a child share, used again for later passes.

Fresh memory costs a fault for each of its pages, in both processes. A block comes back when no
array in it is left, so rows need not be copied out of it.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np

from .channel import Message, map_memory, open_memory

_LEAST_BYTES = 1024 * 1024
_MAX_FREE_BYTES = 256 * 1024 * 1024


class Block:
    """A block of shared memory."""

    def __init__(self, number: int, size_bytes: int) -> None:
        self.number, self.size_bytes = number, size_bytes
        self.descriptor = open_memory(size_bytes)
        self.memory = map_memory(self.descriptor)
        self.is_known = False
        """Whether the child has mapped it."""

    def close(self) -> None:
        """Close the descriptor; the memory goes with the last array in it."""
        os.close(self.descriptor)


class BlockPool:
    """The blocks that the server shares with one child. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[Block] = []
        self._returned: deque[Block] = deque()
        self._dropped: list[int] = []
        self._count = 0
        self._is_closed = False

    def lend(self, size_bytes: int) -> LentBlock:
        """Return a block of this size or more, which comes back when nothing refers to it."""
        rounded = max(_LEAST_BYTES, 1 << max(0, size_bytes - 1).bit_length())
        with self._lock:
            self._collect()
            fitting = [one for one in self._free if one.size_bytes == rounded]
            if fitting:
                self._free.remove(fitting[-1])
                return LentBlock(self, fitting[-1])
            self._count += 1
            number = self._count
        return LentBlock(self, Block(number, rounded))

    def give_back(self, block: Block) -> None:
        """Take a block back; any thread may call this, at any time."""
        # Without the lock: the collector of garbage calls this, also inside `lend`.
        self._returned.append(block)
        if self._is_closed:
            self._close_returned()

    def take_dropped(self) -> list[int]:
        """Return the numbers of blocks that the child may forget, once."""
        with self._lock:
            dropped, self._dropped = self._dropped, []
        return dropped

    def close(self) -> None:
        """Close all blocks, those in use when they come back."""
        with self._lock:
            self._is_closed = True
            self._returned.extend(self._free)
            self._free = []
        self._close_returned()

    def _close_returned(self) -> None:
        with suppress(IndexError):  # another thread may have taken the last one
            while True:
                self._returned.popleft().close()

    def _collect(self) -> None:
        """Sort the blocks that came back; the oldest go beyond the limit."""
        while self._returned:
            self._free.append(self._returned.popleft())
        while sum(one.size_bytes for one in self._free) > _MAX_FREE_BYTES:
            block = self._free.pop(0)
            self._dropped.append(block.number)
            block.close()


class LentBlock:
    """A lent block, which all arrays in its memory refer to, as NumPy's protocol says."""

    def __init__(self, pool: BlockPool, block: Block) -> None:
        self._pool, self.block = pool, block
        whole = np.frombuffer(block.memory, np.uint8)
        self.__array_interface__ = whole.__array_interface__

    def __del__(self) -> None:
        self._pool.give_back(self.block)


class KnownBlocks:
    """The blocks that a child has mapped, by number. Threads may share them."""

    def __init__(self) -> None:
        self._memory: dict[int, mmap.mmap] = {}

    def open(self, request: Message, descriptors: list[int]) -> Any:
        """Return the memory of a request's block, mapped when its descriptor is sent."""
        for number in request.get("dropped", ()):
            self._memory.pop(number, None)
        number = request["block"]
        if descriptors:
            self._memory[number] = map_memory(descriptors[0])
        return self._memory[number]
