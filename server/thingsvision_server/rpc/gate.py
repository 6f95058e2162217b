"""Admits calls while the server serves, and drains them when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DrainingError


class Gate:
    """The calls in progress."""

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[object]] = set()
        self._closed = False
        self._expired = False
        self._left = asyncio.Event()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count a call while the context lasts; raise DrainingError if the gate is closed."""
        if self._closed:
            raise DrainingError(
                "the server is shutting down; try again later, or use another server"
            )
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call must run in a task")
        self._calls.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._expired:
                raise
            raise DrainingError(
                "the server shut down before this call finished; try again"
            ) from None
        finally:
            self._calls.discard(task)
            self._left.set()

    async def drain(self, seconds: float) -> None:
        """Close the gate, wait for the calls, and cancel calls that take longer than `seconds`."""
        self._closed = True
        await self._wait_empty(seconds)
        self._expired = True
        for task in self._calls:
            task.cancel()
        await self._wait_empty(1.0)

    async def _wait_empty(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._calls:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return
