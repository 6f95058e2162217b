"""Shares the device's memory among models: counts it, evicts idle models, and admits loads.

All state belongs to one event loop; freeing runs in threads.
"""

from __future__ import annotations

import asyncio
import time

from ...errors import ModelTooLargeError
from ...monitoring.metrics import Metrics
from ...sources.base import ModelKey
from ..passes.room import PassRoom
from ..waiting import Waiting
from .budget import ModelBudget, Templates
from .host_memory import HostMemory
from .memory_queue import MemoryQueue, Place
from .resident import Resident

_LOOK_SECONDS = 0.5
"""How often the queue is looked at if nothing happens: on a GPU, other processes free memory."""

_MOST_NAMES = 3

_OFFLOADING = frozenset({"room", "idle"})
"""Reasons of evictions after which a model may be asked for again."""


class DeviceMemory:
    """The models on one device, and the loads that wait for memory, within a budget of bytes."""

    def __init__(
        self,
        budget: ModelBudget,
        metrics: Metrics,
        room: PassRoom,
        host: HostMemory,
        queue: MemoryQueue,
        templates: Templates,
    ) -> None:
        self.residents: dict[ModelKey, Resident] = {}
        self.queue = queue
        self.used_bytes = 0
        self.reserved_bytes = 0
        self._granted_bytes = 0
        """Of loads whose memory is not free yet: models are being evicted for them."""
        self._budget = budget
        self._metrics = metrics
        self._room = room
        self._host = host
        self._templates = templates
        self._freeing: dict[asyncio.Task[int], ModelKey] = {}
        self._freeing_bytes = 0
        """Of models that were evicted, and are still counted as used."""
        self._looked_at = 0.0
        self._situation = ""

    @property
    def budget_bytes(self) -> int:
        """Return what models may use now, beside passes and other processes, bytes."""
        return self._budget_beside(self._room.peak_bytes)

    @property
    def foreign_bytes(self) -> int:
        """Return what models use that PyTorch does not run in this process, bytes."""
        # The thread that publishes metrics calls this while the loop adds and removes models.
        loaded = [one.ready_model for one in list(self.residents.values())]
        return sum(one.model.resident_bytes for one in loaded if one and one.model.is_foreign)

    def _budget_beside(self, pass_bytes: int) -> int:
        return self._budget.bytes_beside(pass_bytes, self.foreign_bytes)

    # ---------------------------------------------------------------- loads

    def check_size(self, key: ModelKey, needed_bytes: int) -> None:
        """Raise ModelTooLargeError if a model does not fit beside the pinned models."""
        pinned = [one for one in self.residents.values() if one.pinned and one.ready_model]
        pinned_bytes = sum(one.resident_bytes for one in pinned)
        budget_bytes = self._budget_beside(0)
        if needed_bytes + pinned_bytes <= budget_bytes:
            return
        names = ", ".join(str(one.key) for one in pinned)
        also = f", of which pinned models hold {pinned_bytes:,} ({names})" if pinned else ""
        raise ModelTooLargeError(
            f"{key} needs {needed_bytes:,} bytes on the device; the budget for models is "
            f"{budget_bytes:,} bytes{also}. Start the server with a larger --device-memory",
            field="model",
            subject=str(key),
        )

    async def wait_for_turn(self, resident: Resident, needed_bytes: int) -> None:
        """Wait in the queue until a load is given its memory; then `reserve` it."""
        place = resident.place = self.queue.join(resident.key, needed_bytes)
        try:
            self.admit()
            await place.granted.wait()
        except asyncio.CancelledError:
            self.queue.leave(place)
            self._granted_bytes -= needed_bytes if place.granted.is_set() else 0
            raise
        if place.refusal is not None:
            raise place.refusal

    async def reserve(self, needed_bytes: int) -> None:
        """Wait until the memory that a load was given is free, and count it as reserved."""
        try:
            while self._freeing and self._is_over(needed_bytes):
                await asyncio.wait(self._freeing, return_when=asyncio.FIRST_COMPLETED)
            if self._templates.unused_bytes and self._is_over(needed_bytes):
                await asyncio.to_thread(self._templates.end_unused)
        finally:
            self._granted_bytes -= needed_bytes
        self.reserved_bytes += needed_bytes

    def _is_over(self, needed_bytes: int) -> bool:
        taken_bytes = self.used_bytes + self.reserved_bytes + self._templates.used_bytes
        return taken_bytes + needed_bytes > self.budget_bytes

    def admit(self) -> None:
        """Give memory to all loads of the queue that fit now; whoever came first is asked first."""
        if not len(self.queue):
            return
        left_bytes = self._left_bytes()
        self._keep_what_got_free(left_bytes)
        may_change = any(one.may_end for one in self.residents.values())
        for place in self.queue:
            favoured = self.queue.passed_by(place)
            kept_bytes = favoured.kept_bytes if favoured else 0
            fits = place.needed_bytes <= left_bytes - kept_bytes
            if not fits and (self._refuse_if_too_large(place) or may_change):
                continue
            # If nothing can change, only what passes took at most is in the way.
            self._take(place)
            left_bytes -= place.needed_bytes
            may_change = True

    def _refuse_if_too_large(self, place: Place) -> bool:
        """Refuse a load for which the pinned models leave no room any more."""
        try:
            self.check_size(place.key, place.needed_bytes)
        except ModelTooLargeError as error:
            self.queue.refuse(place, error)
            return True
        return False

    def _take(self, place: Place) -> None:
        """Evict idle models, least recently used first, until a load fits; they go on their own."""
        free_bytes = self._free_bytes()
        idle = [one for one in self.residents.values() if one.evictable]
        for resident in sorted(idle, key=lambda one: one.idle_seconds, reverse=True):
            if free_bytes >= place.needed_bytes:
                break
            free_bytes += resident.resident_bytes
            self.evict(resident, "room")
        self._granted_bytes += place.needed_bytes
        self.queue.grant(place)

    def _keep_what_got_free(self, left_bytes: int) -> None:
        """Evict what went idle lately, for a load that memory is kept for and that has too little.

        Otherwise whoever uses such a model again, or another that fits, would take its memory.
        """
        favoured = self.queue.favoured
        if favoured is None or favoured.needed_bytes <= left_bytes:
            return
        since = self.queue.favoured_at(favoured)
        for resident in list(self.residents.values()):
            if resident.evictable and resident.used_at > since:
                favoured.kept_bytes += resident.resident_bytes
                self.evict(resident, "room")

    def _left_bytes(self) -> int:
        """Return what can be had at once: free, or of idle models and templates, bytes."""
        idle = (one for one in self.residents.values() if one.evictable)
        idle_bytes = sum(one.resident_bytes for one in idle) + self._templates.unused_bytes
        return self._free_bytes() + idle_bytes

    def _free_bytes(self) -> int:
        """Return what nobody has, or what is being freed, bytes."""
        taken_bytes = self.used_bytes + self.reserved_bytes + self._granted_bytes
        taken_bytes += self._templates.used_bytes
        return self.budget_bytes - taken_bytes + self._freeing_bytes

    # ---------------------------------------------------------------- evictions

    async def evict_idle(self) -> bool:
        """Evict the idle model that was used least recently; return False if there is none."""
        victims = [one for one in self.residents.values() if one.evictable]
        if victims:
            await self.evict(max(victims, key=lambda one: one.idle_seconds), "room")
        return bool(victims)

    def evict(self, resident: Resident, reason: str) -> asyncio.Future[int]:
        """Forget a model at once, so that no request finds it; await the result to see it freed."""
        del self.residents[resident.key]
        self._metrics.model_bytes.remove(str(resident.key))
        freeing = asyncio.create_task(self._free(resident, reason), name=f"free {resident.key}")
        self._freeing[freeing] = resident.key
        self._freeing_bytes += resident.resident_bytes
        freeing.add_done_callback(self._on_freed)
        # If the caller is cancelled, the model must still be freed and its bytes uncounted.
        return asyncio.shield(freeing)

    async def wait_for_evictions(self, key: ModelKey | None = None) -> None:
        """Wait until the models that are being freed now, or all with this key, are free."""
        tasks = [task for task, freed in self._freeing.items() if key in (None, freed)]
        if tasks:
            await asyncio.wait(tasks)

    def _on_freed(self, freeing: asyncio.Task[int]) -> None:
        del self._freeing[freeing]
        self.admit()

    async def _free(self, resident: Resident, reason: str) -> int:
        """Free a forgotten model's memory, then count its bytes as free, and return them.

        A model evicted for room, or because it is idle, is offloaded to the host's memory, if the
        budget there allows it.
        """
        loaded = resident.ready.result()
        started = time.monotonic()
        freed = loaded.model.resident_bytes
        offload = loaded.offload if reason in _OFFLOADING else None
        try:
            if offload and freed <= self._host.budget_bytes:
                await self._host.keep(resident.key, freed, offload)
            else:
                await loaded.close()
            self.used_bytes -= freed
        finally:
            self._freeing_bytes -= freed
        self._metrics.unload_seconds.observe(time.monotonic() - started)
        self._metrics.evictions.labels(reason).inc()
        self._metrics.eviction_age.observe(time.monotonic() - resident.loaded_at)
        return freed

    # ---------------------------------------------------------------- what others are told

    def look(self) -> None:
        """Look at the queue again, if nobody did so lately."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self.admit()
            self._situation = self._describe_situation()

    def describe(self, place: Place) -> Waiting:
        """Return what a load that waits in the queue is told."""
        reason = f"{place.key} needs {place.needed_bytes:,} bytes; {self._situation}"
        favoured = self.queue.passed_by(place)
        if favoured and favoured.kept_bytes:
            reason += f"; what gets free is kept for {favoured.key}, which has waited longer"
        return Waiting(self.queue.number(place), len(self.queue), reason)

    def _describe_situation(self) -> str:
        users = [
            one.describe_use()
            for one in self.residents.values()
            if one.may_end or (one.pinned and one.ready_model)
        ]
        more = [f"and {len(users) - _MOST_NAMES} more"] if len(users) > _MOST_NAMES else []
        names = ", ".join([*users[:_MOST_NAMES], *more]) or "none"
        if template_bytes := self._templates.used_bytes:
            names += f"; templates of child processes take {template_bytes:,}"
        left_bytes = max(0, self._left_bytes())
        return f"{left_bytes:,} of {self.budget_bytes:,} can be had now; in use: {names}"
