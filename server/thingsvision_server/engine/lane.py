"""The one thread that a device works in, and the turn to use it; knows no models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class DeviceLane:
    """Serves one piece of work at a time, in the order in which turns were asked for."""

    def __init__(self, device: str, initializer: Callable[[], None] | None = None) -> None:
        self.device = device
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, f"lane-{device}", initializer)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the device: what is queued may be chosen only now, when it is free."""
        async with self._turn:
            yield

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Start work in the device's thread; it runs to its end whoever waits for it."""
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread once its work is done."""
        self._thread.shutdown(wait=True)
