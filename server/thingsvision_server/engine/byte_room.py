"""Memory that work takes before it starts, shared by all requests, in order of arrival.

All state belongs to one event loop. Who leaves while it waits takes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteRoom:
    """A number of bytes. Work that needs more than there is in all runs alone."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.taken_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, byte_count: int) -> AsyncIterator[None]:
        """Wait until there is room for so many bytes, and take them for the body."""
        await self.acquire(byte_count)
        try:
            yield
        finally:
            self.release(byte_count)

    async def acquire(self, byte_count: int) -> None:
        """Wait until there is room for so many bytes, and take them until `release`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((min(byte_count, self.total_bytes), turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was admitted in this moment
                self.release(byte_count)
            self._admit()
            raise

    def release(self, byte_count: int) -> None:
        """Give bytes back that were acquired."""
        self.taken_bytes -= min(byte_count, self.total_bytes)
        self._admit()

    def _admit(self) -> None:
        """Let those in whose turn it is, as far as there is room."""
        while self._waiting:
            wanted, turn = self._waiting[0]
            if turn.done():  # its work was cancelled
                self._waiting.popleft()
            elif self.taken_bytes + wanted <= self.total_bytes:
                self._waiting.popleft()
                self.taken_bytes += wanted
                turn.set_result(None)
            else:
                return
