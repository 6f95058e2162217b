"""Decides which models are in the device's memory: LRU by measured bytes, with leases.

All state belongs to one event loop; loading and freeing run in threads. A request holds its lease
from the moment it asks for a model, so the model that it waits for is never evicted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial

from ...allocator import one_collection
from ...backends.offloading import OffloadedModel
from ...errors import ExhaustedError, ModelInUseError, NotResidentError
from ...monitoring.metrics import Metrics
from ...monitoring.tracing import span
from ...sources.base import ModelKey, Weights
from ...threads import BriefThreads
from ..passes.room import PassRoom, unlimited_room
from ..waiting import Waiting
from .budget import ModelBudget, NoTemplates, Templates
from .device_memory import DeviceMemory
from .host_memory import HostMemory
from .idle import IdleEviction
from .loading import LoadedModel
from .memory_queue import MemoryQueue, Place
from .resident import Resident

MOST_LOADS = 32
"""Loads at a time; others wait for a thread."""

_LOOK_SECONDS = 0.5
"""How often a request that waits is told why."""


@dataclass(frozen=True)
class Loading:
    """How a model is loaded: the prediction of its bytes, and the load itself; both may block."""

    predict_bytes: Callable[[ModelKey], int]
    load: Callable[[ModelKey, OffloadedModel | None], LoadedModel]
    """From the host's memory, if the model was offloaded there."""
    threads: Executor = field(default_factory=lambda: BriefThreads(MOST_LOADS, "load"))
    """Where loads run: a load fills weights on all cores, so its thread gets a team of threads."""

    async def run(self, key: ModelKey, host: OffloadedModel | None) -> LoadedModel:
        """Load a model in a thread, which goes on if nobody waits for it any more."""
        load = partial(copy_context().run, self.load, key, host)
        return await asyncio.get_running_loop().run_in_executor(self.threads, load)


@dataclass(frozen=True)
class Patience:
    """How long requests wait for memory, and loads before memory is kept for them, seconds."""

    wait_seconds: float = 600.0
    keep_seconds: float = 30.0
    idle_seconds: float = 0.0
    """How long a model stays in memory that nobody uses; 0: until its memory is needed."""


class Residency:
    """The models on one device, within a budget of bytes; `host` holds offloaded models."""

    def __init__(
        self,
        loading: Loading,
        device: str,
        budget: ModelBudget,
        metrics: Metrics,
        *,
        room: PassRoom | None = None,
        host_budget_bytes: int = 0,
        patience: Patience | None = None,
        templates: Templates | None = None,
    ) -> None:
        self._templates, none = templates or NoTemplates(), NoTemplates()
        on_device, on_host = (self._templates, none) if device == "cpu" else (none, self._templates)
        patience = patience or Patience()
        room = room or unlimited_room()
        self.device = device
        self.host = HostMemory(host_budget_bytes, metrics, on_host)
        queue = MemoryQueue(patience.keep_seconds)
        self.memory = DeviceMemory(
            budget, metrics, room, host=self.host, queue=queue, templates=on_device
        )
        room.evict_idle = self.memory.evict_idle
        self.idle = IdleEviction(self.memory, room, patience.idle_seconds)
        self.wait_seconds = patience.wait_seconds
        self._loading = loading
        self._metrics = metrics
        self._publish()

    def _publish(self) -> None:
        metrics, memory = self._metrics, self.memory
        metrics.capacity_bytes.set_function(lambda: memory.budget_bytes)
        metrics.used_bytes.set_function(lambda: memory.used_bytes)
        metrics.reserved_bytes.set_function(lambda: memory.reserved_bytes)
        metrics.memory_waiters.set_function(lambda: len(memory.queue))
        metrics.lru_age.set_function(self._lru_age_seconds)

    @property
    def budget_bytes(self) -> int:
        """Return what models may use now, beside passes and other processes, bytes."""
        return self.memory.budget_bytes

    @property
    def used_bytes(self) -> int:
        """Return what models in memory use, bytes."""
        return self.memory.used_bytes

    @property
    def reserved_bytes(self) -> int:
        """Return what is reserved for models being loaded, bytes."""
        return self.memory.reserved_bytes

    @property
    def foreign_bytes(self) -> int:
        """Return what models use that PyTorch does not run in this process, bytes."""
        return self.memory.foreign_bytes

    @property
    def template_bytes(self) -> int:
        """Return what the templates of child processes take of the host's memory, bytes."""
        return self._templates.used_bytes

    async def evict_idle(self) -> bool:
        """Evict the idle model that was used least recently; return False if there is none."""
        return await self.memory.evict_idle()

    # ---------------------------------------------------------------- leases

    @asynccontextmanager
    async def lease(self, key: ModelKey) -> AsyncIterator[LoadedModel]:
        """Keep a model in memory while the context lasts; load it first if needed.

        If the load fails, all requests that wait for it raise its error; the next request retries.
        Raises ExhaustedError if there is no memory for it in time.
        """
        resident = self.begin_lease(key)
        try:
            async for _ in self.wait_until_ready(resident):
                pass
            yield resident.ready.result()
        finally:
            self.end_lease(resident)

    def begin_lease(self, key: ModelKey) -> Resident:
        """Lease a model, and start to load it if it is not in memory; end the lease after use."""
        resident = self._residents.get(key) or self._start_load(key)
        resident.lease_count += 1
        return resident

    def end_lease(self, resident: Resident) -> None:
        """End a lease; a load that still waits for memory, and that nobody else wants, is given up.

        A load that has begun goes on.
        """
        resident.lease_count -= 1
        resident.used_at = time.monotonic()
        place = resident.place
        if place is not None and resident.waits_for_memory and not resident.lease_count:
            del self._residents[resident.key]  # a request that comes now begins another
            self.memory.queue.leave(place)
            resident.ready.cancel()
        self.memory.admit()

    async def wait_until_ready(self, resident: Resident) -> AsyncGenerator[Waiting]:
        """Wait for a leased model, and yield at intervals what its request waits for.

        Raises what the load raises, or ExhaustedError if there is no memory for it in time.
        """
        asked_at = time.monotonic()
        with self._metrics.load_waiters.track_inprogress():
            while not resident.ready.done():
                seconds, place = _LOOK_SECONDS, resident.place
                if resident.waits_for_memory:
                    self.memory.look()  # which may give it what got free
                if place is None or not resident.waits_for_memory:
                    yield Waiting()
                else:
                    yield self.memory.describe(place)
                    waited = time.monotonic() - max(asked_at, place.since)
                    seconds = min(seconds, self.wait_seconds - waited)
                    if seconds <= 0 and resident.waits_for_memory:
                        raise self._no_memory_error(place, waited)
                await asyncio.wait({resident.ready}, timeout=max(0.0, seconds))
        resident.ready.result()

    def _no_memory_error(self, place: Place, waited: float) -> ExhaustedError:
        return ExhaustedError(
            f"there was no memory for the model within {self.wait_seconds:g} s (--wait-seconds): "
            f"{self.memory.describe(place).reason}. Try again later",
            field="model",
            subject=str(place.key),
            retry_seconds=self.memory.queue.retry_seconds(waited),
        )

    # ---------------------------------------------------------------- models

    @property
    def _residents(self) -> dict[ModelKey, Resident]:
        return self.memory.residents

    def find(self, key: ModelKey) -> Resident | None:
        """Return a model that is in memory or being loaded, if any."""
        return self._residents.get(key)

    def residents(self) -> list[Resident]:
        """Return the models in memory, most recently used first."""
        loaded = [resident for resident in self._residents.values() if resident.ready_model]
        return sorted(loaded, key=lambda resident: resident.idle_seconds)

    def waiting(self) -> list[tuple[Resident, Place]]:
        """Return the models whose loads wait for memory, with their places in the queue."""
        self.memory.look()
        pairs = [(self._residents.get(place.key), place) for place in self.memory.queue]
        return [(resident, place) for resident, place in pairs if resident is not None]

    def users_of(self, weights: Weights) -> list[ModelKey]:
        """Return the models with these weights that are in memory or being loaded."""
        return [key for key in self._residents if key.uses(weights)]

    async def pin(self, key: ModelKey, pinned: bool) -> Resident:
        """Pin a model, loading it if needed, or unpin it."""
        if not pinned:
            resident = self.get_resident(key)
            resident.pinned = False
            self.memory.admit()
            return resident
        async with self.lease(key):
            resident = self._residents[key]
            resident.pinned = True
            self.memory.admit()  # whoever waits may never fit now
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
        return await self.memory.evict(resident, "unload")

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
                    await self.memory.evict(resident, "shutdown")
            await self.memory.wait_for_evictions()
            await self.host.drop_all()

    def _start_load(self, key: ModelKey) -> Resident:
        resident = Resident(key)
        resident.ready = asyncio.create_task(self._load(resident), name=f"load {key}")
        self._residents[key] = resident
        # Reads a failure too, so that it is not logged if every waiter is gone by then.
        resident.ready.add_done_callback(lambda task: self._on_load_end(resident, task))
        return resident

    def _on_load_end(self, resident: Resident, task: asyncio.Task[LoadedModel]) -> None:
        is_given_up = task.cancelled()
        failed = is_given_up or task.exception() is not None
        if not is_given_up:
            result = "error" if failed else "host" if resident.came_from_host else "ok"
            self._metrics.loads.labels(result).inc()
        if failed and self._residents.get(resident.key) is resident:
            del self._residents[resident.key]
        self.memory.admit()

    async def _load(self, resident: Resident) -> LoadedModel:
        key, memory = resident.key, self.memory
        predicted = await asyncio.to_thread(self._loading.predict_bytes, key)
        memory.check_size(key, predicted)
        if key in self.host:  # maybe on its way there
            await memory.wait_for_evictions(key)
        await memory.wait_for_turn(resident, predicted)
        # Take it now: models are being offloaded to make room, which could evict it.
        host = self.host.take(key)
        await memory.reserve(predicted)
        started = time.monotonic()
        try:
            with span("load model", model=str(key)):
                loaded = await self._loading.run(key, host)
        finally:
            memory.reserved_bytes -= predicted
        resident.came_from_host = host is not None
        resident.loaded_at = resident.used_at = time.monotonic()
        resident.load_seconds = resident.loaded_at - started
        memory.used_bytes += loaded.model.resident_bytes
        self._metrics.load_seconds.observe(resident.load_seconds)
        self._metrics.model_bytes.labels(str(key)).set(loaded.model.resident_bytes)
        return loaded

    def _lru_age_seconds(self) -> float:
        # The thread that publishes metrics calls this while the loop adds and removes models.
        residents = list(self._residents.values())
        ages = [resident.idle_seconds for resident in residents if resident.evictable]
        return max(ages, default=0.0)
