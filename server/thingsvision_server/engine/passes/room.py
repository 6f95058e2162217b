"""Memory for forward passes: a pass waits for others, or for idle models to be evicted.

All state belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

SMALL_BYTES = 64 * 2**20
"""Passes of less are not looked at: asking for free memory takes up to a millisecond."""


@dataclass(frozen=True)
class MemoryProbe:
    """Asks a device about its memory; each call may take a millisecond."""

    free_bytes: Callable[[], int]
    """What an allocation can get now."""
    reclaim: Callable[[], None] = lambda: None
    """Gives freed memory that this process keeps back, so that it counts as free."""
    begin_peak: Callable[[], None] = lambda: None
    """Begins a measurement of what passes allocate."""
    peak_bytes: Callable[[], int] = lambda: 0
    """Returns the most since `begin_peak`; 0 where it can't be measured."""


async def _nothing_to_evict() -> bool:
    return False


class PassRoom:
    """Room for the passes of all models on one device.

    Passes run side by side as long as their predicted bytes fit together into `capacity_bytes` and
    into what is free. `evict_idle` evicts one idle model, and returns False if there is none.
    """

    def __init__(
        self,
        capacity_bytes: int,
        probe: MemoryProbe,
        on_wait: Callable[[], object] = lambda: None,
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        """Predicted bytes of the passes that run."""
        self.peak_bytes = 0
        """The most that passes took together, measured where the device can tell it."""
        self.evict_idle: Callable[[], Awaitable[bool]] = _nothing_to_evict
        self._probe = probe
        self._on_wait = on_wait
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def take(self, needed_bytes: int) -> AsyncIterator[bool]:
        """Wait for room and hold it; yield False if even alone there is none."""
        if needed_bytes < SMALL_BYTES:
            yield True
            return
        has_room = await self._wait(needed_bytes)
        if not has_room:
            yield False
            return
        if not self.used_bytes:
            self._probe.begin_peak()
        self.used_bytes += needed_bytes
        try:
            yield True
        finally:
            self.peak_bytes = max(self.peak_bytes, self._probe.peak_bytes() or self.used_bytes)
            self.used_bytes -= needed_bytes
            self._changed.set()

    def reclaim(self) -> None:
        """Give memory that was freed, and that this process keeps for reuse, to the system."""
        self._probe.reclaim()

    async def _wait(self, needed_bytes: int) -> bool:
        has_waited = has_reclaimed = False
        while not self._fits(needed_bytes):
            if self.used_bytes:
                if not has_waited:
                    self._on_wait()
                has_waited = True
                self._changed.clear()
                await self._changed.wait()
            elif not has_reclaimed:
                has_reclaimed = True
                await asyncio.to_thread(self._probe.reclaim)
            elif not await self.evict_idle() and not self.used_bytes:
                return False
        return True

    def _fits(self, needed_bytes: int) -> bool:
        """Tell whether a pass has room; what others will take may not be allocated yet."""
        if self.used_bytes and self.used_bytes + needed_bytes > self.capacity_bytes:
            return False
        return needed_bytes + self.used_bytes <= self._probe.free_bytes()


def unlimited_room() -> PassRoom:
    """Return room for all passes."""
    return PassRoom(2**62, MemoryProbe(lambda: 2**62))
