"""Admits calls while the server serves, and drains them when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ..errors import DrainingError

_LAST_LOOK_SECONDS = 0.1


class RunningCall(Protocol):
    """A call that can say what it is."""

    def describe(self) -> dict[str, Any]:
        """Return its method, its client, and how far it is."""


class Gate:
    """The calls in progress, and who watches the server's health meanwhile."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.Task[object], RunningCall] = {}
        self._watchers: set[asyncio.Task[object]] = set()
        self._closed = False
        self._expired = False
        self._left = asyncio.Event()

    @property
    def calls(self) -> list[RunningCall]:
        """What the calls in progress are, the oldest first."""
        return list(self._calls.values())

    @contextmanager
    def enter(self, call: RunningCall) -> Iterator[None]:
        """Count a call while the context lasts; raise DrainingError if the gate is closed."""
        if self._closed:
            raise DrainingError(
                "the server is shutting down; try again later, or use another server"
            )
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call must run in a task")
        self._calls[task] = call
        try:
            yield
        except asyncio.CancelledError:
            if not self._expired:
                raise
            raise DrainingError(
                "the server shut down before this call finished; try again"
            ) from None
        finally:
            self._calls.pop(task, None)
            self._left.set()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Let a call last until the others have ended; raise DrainingError then."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call must run in a task")
        self._watchers.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._expired:
                raise
            raise DrainingError("the server has shut down") from None
        finally:
            self._watchers.discard(task)

    async def drain(self, seconds: float) -> None:
        """Close the gate, wait for the calls, and cancel calls that take longer than `seconds`.

        Then end the calls of watchers, who had a moment to see that the server stops.
        """
        self._closed = True
        await self._wait_empty(seconds)
        self._expired = True
        for task in list(self._calls):
            task.cancel()
        await self._wait_empty(1.0)
        if self._watchers:
            await asyncio.sleep(_LAST_LOOK_SECONDS)
        for task in list(self._watchers):
            task.cancel()

    async def _wait_empty(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._calls:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return
