"""Decides which models are in the device's memory: LRU by measured bytes, with leases.

All state belongs to one event loop; loading and freeing run in threads. A request holds its lease
from the moment it asks for a model, so the model that it waits for is never evicted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ...allocator import one_collection
from ...backends.offloading import OffloadedModel
from ...errors import ModelInUseError, ModelTooLargeError, NotResidentError
from ...metrics import Metrics
from ...sources.base import ModelKey, Weights
from .host_memory import HostMemory
from .loading import LoadedModel


@dataclass(frozen=True)
class Loading:
    """How a model is loaded: the prediction of its bytes, and the load itself; both may block."""

    predict_bytes: Callable[[ModelKey], int]
    load: Callable[[ModelKey, OffloadedModel | None], LoadedModel]
    """From the host's memory, if the model was offloaded there."""


@dataclass(eq=False)
class Resident:
    """A model that is in memory or being loaded."""

    key: ModelKey
    ready: asyncio.Task[LoadedModel]
    lease_count: int = 0
    pinned: bool = False
    waits_for_memory: bool = False
    loaded_at: float = 0.0
    used_at: float = field(default_factory=time.monotonic)
    load_seconds: float = 0.0
    came_from_host: bool = False
    """Whether its weights were still in the host's memory."""

    @property
    def ready_model(self) -> LoadedModel | None:
        """Return the model; None while it is loading, or if loading failed."""
        done = self.ready.done() and not self.ready.cancelled() and not self.ready.exception()
        return self.ready.result() if done else None

    @property
    def idle_seconds(self) -> float:
        """Return the seconds since the last use; 0 while in use."""
        return 0.0 if self.lease_count else time.monotonic() - self.used_at

    @property
    def evictable(self) -> bool:
        """Tell whether the model is loaded, and neither in use nor pinned."""
        return bool(self.ready_model) and not self.lease_count and not self.pinned


class Residency:
    """The models on one device, within a budget of bytes; `host` holds offloaded models."""

    def __init__(
        self,
        loading: Loading,
        device: str,
        budget_bytes: int,
        metrics: Metrics,
        *,
        host_budget_bytes: int = 0,
    ) -> None:
        self.device = device
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.reserved_bytes = 0
        self._loading = loading
        self._metrics = metrics
        self.host = HostMemory(host_budget_bytes, metrics)
        self._residents: dict[ModelKey, Resident] = {}
        self._freeing: set[asyncio.Task[int]] = set()
        self._memory_turn = asyncio.Lock()
        self._changed = asyncio.Event()
        metrics.capacity_bytes.set(budget_bytes)
        metrics.used_bytes.set_function(lambda: self.used_bytes)
        metrics.reserved_bytes.set_function(lambda: self.reserved_bytes)
        metrics.lru_age.set_function(self._lru_age_seconds)

    @asynccontextmanager
    async def lease(self, key: ModelKey) -> AsyncIterator[LoadedModel]:
        """Keep a model in memory while the context lasts; load it first if needed.

        If the load fails, all requests that wait for it raise its error; the next request retries.
        """
        resident = self._residents.get(key) or self._start_load(key)
        resident.lease_count += 1
        try:
            with self._metrics.load_waiters.track_inprogress():
                loaded = await asyncio.shield(resident.ready)
            yield loaded
        finally:
            resident.lease_count -= 1
            resident.used_at = time.monotonic()
            self._changed.set()

    def find(self, key: ModelKey) -> Resident | None:
        """Return a model that is in memory or being loaded, if any."""
        return self._residents.get(key)

    def residents(self) -> list[Resident]:
        """Return the models in memory, most recently used first."""
        loaded = [resident for resident in self._residents.values() if resident.ready_model]
        return sorted(loaded, key=lambda resident: resident.idle_seconds)

    def users_of(self, weights: Weights) -> list[ModelKey]:
        """Return the models with these weights that are in memory or being loaded."""
        return [key for key in self._residents if key.uses(weights)]

    async def pin(self, key: ModelKey, pinned: bool) -> Resident:
        """Pin a model, loading it if needed, or unpin it."""
        if not pinned:
            resident = self.get_resident(key)
            resident.pinned = False
            self._changed.set()
            return resident
        async with self.lease(key):
            resident = self._residents[key]
            resident.pinned = True
            return resident

    async def unload(self, key: ModelKey) -> int:
        """Free an idle model, and return its bytes on the device: 0 if it was offloaded.

        Nothing of it stays in the host's memory. Raises ModelInUseError if it is in use or pinned,
        NotResidentError if it is not in memory.
        """
        if key not in self._residents and key in self.host:
            await self.host.drop([key])
            return 0
        resident = self.get_resident(key)
        if not resident.evictable:
            leases = f"in use by {resident.lease_count} request(s)"
            why = "pinned; unpin it first" if resident.pinned else f"{leases}; try again later"
            raise ModelInUseError(f"{key} is {why}", field="model", subject=str(key))
        return await self._evict(resident, "unload")

    def get_resident(self, key: ModelKey) -> Resident:
        """Return a model that is in memory; raise NotResidentError if it is not."""
        resident = self._residents.get(key)
        if resident is None or not resident.ready_model:
            names = ", ".join(str(other.key) for other in self.residents()) or "none"
            sentence = f"{key} is not in memory. Resident models: {names}"
            raise NotResidentError(sentence, field="model", subject=str(key))
        return resident

    async def close(self) -> None:
        """Free every model, in use or not, after waiting for loads in progress."""
        with one_collection():
            for resident in list(self._residents.values()):
                await asyncio.wait([resident.ready])
                if resident.ready_model and self._residents.get(resident.key) is resident:
                    await self._evict(resident, "shutdown")
            if self._freeing:
                await asyncio.wait(self._freeing)
            await self.host.drop_all()

    def _start_load(self, key: ModelKey) -> Resident:
        resident = Resident(key, asyncio.create_task(self._load(key), name=f"load {key}"))
        self._residents[key] = resident
        # Reads a failure too, so that it is not logged if every waiter is gone by then.
        resident.ready.add_done_callback(lambda task: self._on_load_end(resident, task))
        return resident

    def _on_load_end(self, resident: Resident, task: asyncio.Task[LoadedModel]) -> None:
        failed = task.cancelled() or task.exception() is not None
        result = "error" if failed else "host" if resident.came_from_host else "ok"
        self._metrics.loads.labels(result).inc()
        if failed and self._residents.get(resident.key) is resident:
            del self._residents[resident.key]
        self._changed.set()

    async def _load(self, key: ModelKey) -> LoadedModel:
        predicted = await asyncio.to_thread(self._loading.predict_bytes, key)
        self._refuse_if_too_large(key, predicted)
        # Take it now: `_reserve` offloads other models, which could evict it.
        host = self.host.take(key)
        await self._reserve(key, predicted)
        started = time.monotonic()
        try:
            # `_memory_turn` lets one load make room at a time: if this model was still being
            # offloaded above, that has finished by now.
            host = host or self.host.take(key)
            loaded = await asyncio.to_thread(self._loading.load, key, host)
        finally:
            self.reserved_bytes -= predicted
        resident = self._residents[key]
        resident.came_from_host = host is not None
        resident.loaded_at = resident.used_at = time.monotonic()
        resident.load_seconds = resident.loaded_at - started
        self.used_bytes += loaded.model.resident_bytes
        self._metrics.load_seconds.observe(resident.load_seconds)
        self._metrics.model_bytes.labels(str(key)).set(loaded.model.resident_bytes)
        return loaded

    def _refuse_if_too_large(self, key: ModelKey, needed: int) -> None:
        pinned = [r for r in self._residents.values() if r.pinned and r.ready_model]
        pinned_bytes = sum(r.ready_model.model.resident_bytes for r in pinned if r.ready_model)
        if needed + pinned_bytes <= self.budget_bytes:
            return
        names = ", ".join(str(r.key) for r in pinned)
        also = f", of which pinned models hold {pinned_bytes:,} ({names})" if pinned else ""
        raise ModelTooLargeError(
            f"{key} needs {needed:,} bytes on the device; the budget for models is "
            f"{self.budget_bytes:,} bytes{also}. Start the server with a larger --device-memory",
            field="model",
            subject=str(key),
        )

    async def _reserve(self, key: ModelKey, needed: int) -> None:
        """Evict idle models, least recently used first, until the load fits; wait for leases."""
        resident = self._residents[key]
        async with self._memory_turn:
            while self.used_bytes + self.reserved_bytes + needed > self.budget_bytes:
                self._refuse_if_too_large(key, needed)
                victims = [r for r in self._residents.values() if r.evictable]
                if victims:
                    await self._evict(max(victims, key=lambda r: r.idle_seconds), "room")
                    continue
                resident.waits_for_memory = True
                self._changed.clear()
                await self._changed.wait()
            resident.waits_for_memory = False
            self.reserved_bytes += needed

    def _evict(self, resident: Resident, reason: str) -> asyncio.Future[int]:
        """Forget a model at once, so that no request finds it; await the result to see it freed."""
        del self._residents[resident.key]
        self._metrics.model_bytes.remove(str(resident.key))
        freeing = asyncio.create_task(self._free(resident, reason), name=f"free {resident.key}")
        self._freeing.add(freeing)
        freeing.add_done_callback(self._freeing.discard)
        # If the caller is cancelled, the model must still be freed and its bytes uncounted.
        return asyncio.shield(freeing)

    async def _free(self, resident: Resident, reason: str) -> int:
        """Free a forgotten model's memory, then count its bytes as free, and return them.

        A model evicted for room is offloaded to the host's memory, if the budget there allows it.
        """
        loaded = resident.ready.result()
        started = time.monotonic()
        freed = loaded.model.resident_bytes
        offload = loaded.offload if reason == "room" else None
        if offload and freed <= self.host.budget_bytes:
            await self.host.keep(resident.key, freed, offload)
        else:
            await loaded.close()
        self.used_bytes -= freed
        self._metrics.unload_seconds.observe(time.monotonic() - started)
        self._metrics.evictions.labels(reason).inc()
        self._metrics.eviction_age.observe(time.monotonic() - resident.loaded_at)
        self._changed.set()
        return freed

    def _lru_age_seconds(self) -> float:
        # The thread that publishes metrics calls this while the loop adds and removes models.
        residents = list(self._residents.values())
        ages = [resident.idle_seconds for resident in residents if resident.evictable]
        return max(ages, default=0.0)
