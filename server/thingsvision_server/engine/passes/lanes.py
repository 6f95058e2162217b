"""The lanes of a device, each a thread that runs its work, and the turns to use them.

A GPU has one lane. A CPU has several, each with its share of the cores: passes side by side are
faster than one pass after another on all cores. A turn may widen to all cores while no other lane
is in use, for the one image that somebody waits for.
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
"""After so long without work, `on_idle` is called in a lane, to release cached memory."""


@dataclass(frozen=True)
class Cores:
    """The cores of a machine; `use` sets how many the calling thread's operations use."""

    count: int
    use: Callable[[int], None]


class DeviceLanes:
    """Runs as many pieces of work at a time as there are lanes (`width`), in order of arrival."""

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
        """Wait for a free lane and take it; choose the work only after that, and end the turn."""
        await self._free.acquire()
        self._used_count += 1
        if self._rest is not None:
            self._rest.cancel()
        return Turn(self)

    def run(self, work: Callable[[], T], cores: int | None = None) -> asyncio.Future[T]:
        """Start work in a lane's thread, on a lane's share of the cores unless `cores` is given.

        It runs to its end even if nobody waits for it any more.
        """
        count = cores or max(1, self._cores.count // self.width)
        start = partial(_on_cores, self._cores, count, work)
        return asyncio.get_running_loop().run_in_executor(self._threads, start)

    @property
    def uses_one_lane(self) -> bool:
        """Tell whether exactly one lane is in use."""
        return self._used_count == 1

    async def acquire(self, count: int) -> None:
        """Take lanes that must be free."""
        for _ in range(count):
            await self._free.acquire()
        self._used_count += count

    def release(self, count: int) -> None:
        """Give lanes back."""
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
        """Finish the work of the threads, then end them."""
        if self._rest is not None:
            self._rest.cancel()
        self._threads.shutdown(wait=True)


class Turn:
    """A taken lane; `end` gives it back."""

    def __init__(self, lanes: DeviceLanes) -> None:
        self._lanes = lanes
        self._taken_count = 1
        self._cores: int | None = None

    async def widen(self) -> None:
        """Use all cores, if no other lane is in use."""
        if self._lanes.uses_one_lane:
            others = self._lanes.width - 1
            await self._lanes.acquire(others)
            self._taken_count += others
            self._cores = self._lanes.all_cores

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Start work; it runs to its end even if nobody waits for it any more."""
        return self._lanes.run(work, self._cores)

    def end(self) -> None:
        """Give the lane back."""
        self._lanes.release(self._taken_count)
        self._taken_count = 0


def _on_cores(cores: Cores, count: int, work: Callable[[], T]) -> T:
    cores.use(count)
    return work()
