"""Holds the weights of offloaded models in the host's memory, within a budget of bytes.

All state belongs to one event loop; freeing runs in threads.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from ...backends.offloading import OffloadedModel
from ...monitoring.metrics import Metrics
from ...sources.base import ModelKey, Weights
from .budget import NoTemplates, Templates

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Entry:
    host_bytes: int
    model: OffloadedModel | None = None
    """None while the model is still being offloaded."""


class HostMemory:
    """Models that were offloaded to make room for others; a budget of 0 keeps none."""

    def __init__(
        self, budget_bytes: int, metrics: Metrics, templates: Templates | None = None
    ) -> None:
        self._whole_bytes = budget_bytes
        self._templates = templates or NoTemplates()
        self.used_bytes = 0
        self._entries: OrderedDict[ModelKey, _Entry] = OrderedDict()
        """Oldest offloaded first; reloaded models are removed."""
        metrics.host_capacity_bytes.set(budget_bytes)
        metrics.host_used_bytes.set_function(lambda: self.used_bytes)

    @property
    def budget_bytes(self) -> int:
        """Return what offloaded models may take beside the templates of child processes, bytes."""
        return max(0, self._whole_bytes - self._templates.used_bytes)

    def __contains__(self, key: ModelKey) -> bool:
        return key in self._entries

    async def keep(
        self, key: ModelKey, needed_bytes: int, offload: Callable[[], Awaitable[OffloadedModel]]
    ) -> None:
        """Make room, then offload a model, and keep it.

        If the system has no memory for it, in spite of the budget, the model is not kept.
        """
        dropped = []
        while self._entries and self.used_bytes + needed_bytes > self.budget_bytes:
            dropped.append(self._drop(next(iter(self._entries))))
        entry = self._entries[key] = _Entry(needed_bytes)
        self.used_bytes += needed_bytes
        try:
            await _close(dropped)
            model = await offload()
        except MemoryError as error:
            _log.warning("can't offload a model", model=str(key), reason=str(error))
        else:
            entry.model = model
        is_wanted = self._entries.get(key) is entry
        if is_wanted and entry.model is None:
            self._drop(key)
        elif not is_wanted:
            await _close([entry])

    def take(self, key: ModelKey) -> OffloadedModel | None:
        """Remove and return an offloaded model, so that it can be restored.

        None if there is none, or if the model is still being offloaded.
        """
        entry = self._entries.get(key)
        is_here = entry is not None and entry.model is not None
        return self._drop(key).model if is_here else None

    async def drop(self, keys: Sequence[ModelKey]) -> None:
        """Free these models; one that is still being offloaded is freed once that has finished."""
        await _close([self._drop(key) for key in keys if key in self._entries])

    async def drop_all(self, weights: Weights | None = None) -> None:
        """Free all models, or all with these weights, as `drop` does."""
        await self.drop([key for key in self._entries if weights is None or key.uses(weights)])

    def _drop(self, key: ModelKey) -> _Entry:
        entry = self._entries.pop(key)
        self.used_bytes -= entry.host_bytes
        return entry


async def _close(dropped: Sequence[_Entry]) -> None:
    for entry in dropped:
        if entry.model:
            await asyncio.to_thread(entry.model.close)
