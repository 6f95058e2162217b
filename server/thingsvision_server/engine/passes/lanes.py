"""The threads that a device works in, and the turns to use them; knows no models.

A GPU has one lane. A CPU has several, each with its share of the cores: passes side by side are
quicker than one pass after the other on all cores. A turn may widen to all cores while nobody
else works, for the one image that somebody waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

T = TypeVar("T")

IDLE_SECONDS = 30.0
"""After so long without work `on_idle` is called in a lane: what was kept for work may go."""


@dataclass(frozen=True)
class Cores:
    """The cores of a machine; `use` has the calling thread's operations use so many of them."""

    count: int
    use: Callable[[int], None]


class DeviceLanes:
    """Serves as many pieces of work at a time as it is wide, in the order of the turns."""

    def __init__(
        self,
        device: str,
        cores: Cores,
        width: int = 1,
        *,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self.device = device
        self.width = width
        self._cores = cores
        self._free = asyncio.Semaphore(width)
        self._used_count = 0
        self._on_idle = on_idle
        self._rest: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(width, f"lane-{device}")

    async def turn(self) -> Turn:
        """Wait for a lane: what is queued may be chosen only now, when it is free. End the turn."""
        await self._free.acquire()
        self._used_count += 1
        if self._rest is not None:
            self._rest.cancel()
        return Turn(self)

    def run(self, work: Callable[[], T], cores: int | None = None) -> asyncio.Future[T]:
        """Start work in a lane's thread, on a lane's cores unless more are named.

        It runs to its end whoever waits for it.
        """
        count = cores or max(1, self._cores.count // self.width)
        start = partial(_on_cores, self._cores, count, work)
        return asyncio.get_running_loop().run_in_executor(self._threads, start)

    @property
    def is_used_once(self) -> bool:
        """Tell whether one turn is all that is taken."""
        return self._used_count == 1

    async def take(self, count: int) -> None:
        """Take free lanes; they have to be there."""
        for _ in range(count):
            await self._free.acquire()
        self._used_count += count

    def give_back(self, count: int) -> None:
        """Free lanes for whoever waits."""
        self._used_count -= count
        for _ in range(count):
            self._free.release()
        if not self._used_count and self._on_idle is not None:
            loop = asyncio.get_running_loop()
            self._rest = loop.call_later(IDLE_SECONDS, self.run, self._on_idle)

    @property
    def all_cores(self) -> int:
        """Return the number of cores of all lanes together."""
        return self._cores.count

    def close(self) -> None:
        """End the threads once their work is done."""
        if self._rest is not None:
            self._rest.cancel()
        self._threads.shutdown(wait=True)


class Turn:
    """A lane that is taken; `end` gives it back."""

    def __init__(self, lanes: DeviceLanes) -> None:
        self._lanes = lanes
        self._taken_count = 1
        self._cores: int | None = None

    async def widen(self) -> None:
        """Use all cores, if nobody else works."""
        if self._lanes.is_used_once:
            others = self._lanes.width - 1
            await self._lanes.take(others)
            self._taken_count += others
            self._cores = self._lanes.all_cores

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Start work; it runs to its end whoever waits for it."""
        return self._lanes.run(work, self._cores)

    def end(self) -> None:
        """Give the lane back."""
        self._lanes.give_back(self._taken_count)
        self._taken_count = 0


def _on_cores(cores: Cores, count: int, work: Callable[[], T]) -> T:
    cores.use(count)
    return work()
