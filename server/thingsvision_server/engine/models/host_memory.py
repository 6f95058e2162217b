"""Weights of models that left the device: in the host's memory, LRU within a budget of bytes.

All state belongs to one event loop; freeing runs in threads. Knows no device and no leases.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from ...backends.offloading import OffloadedModel
from ...metrics import Metrics
from ...sources.base import ModelKey, Weights

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Kept:
    host_bytes: int
    host: OffloadedModel | None = None
    """None while the model is still leaving."""


class HostMemory:
    """What models left when they had to make room for others; a budget of 0 keeps nothing."""

    def __init__(self, budget_bytes: int, metrics: Metrics) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._kept: OrderedDict[ModelKey, _Kept] = OrderedDict()
        """The first one left longest ago; one that is used again is here no more."""
        metrics.host_capacity_bytes.set(budget_bytes)
        metrics.host_used_bytes.set_function(lambda: self.used_bytes)

    def __contains__(self, key: ModelKey) -> bool:
        return key in self._kept

    async def keep(
        self, key: ModelKey, needed_bytes: int, leave: Callable[[], Awaitable[OffloadedModel]]
    ) -> None:
        """Make room, then have a model leave its device, and keep what it leaves.

        Where the system has no memory for it, in spite of the budget, nothing is kept.
        """
        dropped = []
        while self._kept and self.used_bytes + needed_bytes > self.budget_bytes:
            dropped.append(self._drop(next(iter(self._kept))))
        kept = self._kept[key] = _Kept(needed_bytes)
        self.used_bytes += needed_bytes
        try:
            await _close(dropped)
            host = await leave()
        except MemoryError as error:
            _log.warning("no host memory for a model", model=str(key), reason=str(error))
        else:
            kept.host = host
        is_wanted = self._kept.get(key) is kept
        if is_wanted and kept.host is None:
            self._drop(key)
        elif not is_wanted:
            await _close([kept])

    def take(self, key: ModelKey) -> OffloadedModel | None:
        """Return what a model left, for its way back: it is no longer counted.

        None where there is nothing, or the model is still leaving.
        """
        is_here = key in self._kept and self._kept[key].host is not None
        return self._drop(key).host if is_here else None

    async def drop(self, keys: Sequence[ModelKey]) -> None:
        """Free what these models left, or are leaving now."""
        await _close([self._drop(key) for key in keys if key in self._kept])

    async def drop_all(self, weights: Weights | None = None) -> None:
        """Free what all models left, or all with these weights."""
        await self.drop([key for key in self._kept if weights in (None, key.weights)])

    def _drop(self, key: ModelKey) -> _Kept:
        kept = self._kept.pop(key)
        self.used_bytes -= kept.host_bytes
        return kept


async def _close(dropped: Sequence[_Kept]) -> None:
    for kept in dropped:
        if kept.host:
            await asyncio.to_thread(kept.host.close)
