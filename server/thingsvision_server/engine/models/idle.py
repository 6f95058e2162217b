"""Gives the device's memory back of models that nobody has used for a while.

All state belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from ..passes.room import PassRoom
from .device_memory import DeviceMemory

_LOOK_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class IdleEviction:
    """Evicts models `seconds` after their last use; 0: never. Pinned models stay."""

    def __init__(self, memory: DeviceMemory, room: PassRoom, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._memory = memory
        self._room = room

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look for idle models each second while the context lasts."""
        task = asyncio.create_task(self._run(), name="evict idle models")
        try:
            yield
        finally:
            task.cancel()

    async def look(self) -> None:
        """Evict what is idle now, and have the system get the memory: others may use the device."""
        if not self.seconds:
            return
        idle = [
            one
            for one in list(self._memory.residents.values())
            if one.evictable and one.idle_seconds >= self.seconds
        ]
        if not idle:
            return
        for one in idle:
            _log.info("evicting an idle model", model=str(one.key), seconds=self.seconds)
        freeing = [self._memory.evict(one, "idle") for one in idle]
        await asyncio.gather(*freeing, return_exceptions=True)
        await asyncio.to_thread(self._room.reclaim)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look()
