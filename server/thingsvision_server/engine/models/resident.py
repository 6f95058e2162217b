"""A model in the device's memory, or on its way there, and who uses it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from ...sources.base import ModelKey
from .loading import LoadedModel
from .memory_queue import Place


@dataclass(eq=False)
class Resident:
    """A model that is in memory or being loaded."""

    key: ModelKey
    ready: asyncio.Task[LoadedModel] = field(init=False)
    lease_count: int = 0
    pinned: bool = False
    place: Place | None = None
    """Its place in the queue for memory, if it came there."""
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
    def resident_bytes(self) -> int:
        """Return its bytes on the device; 0 while it is loading, or if loading failed."""
        loaded = self.ready_model
        return loaded.model.resident_bytes if loaded else 0

    @property
    def idle_seconds(self) -> float:
        """Return the seconds since the last use; 0 while in use."""
        return 0.0 if self.lease_count else time.monotonic() - self.used_at

    @property
    def evictable(self) -> bool:
        """Tell whether the model is loaded, and neither in use nor pinned."""
        return bool(self.ready_model) and not self.lease_count and not self.pinned

    @property
    def waits_for_memory(self) -> bool:
        """Tell whether its load waits in the queue for memory."""
        return self.place is not None and not self.place.granted.is_set()

    @property
    def may_end(self) -> bool:
        """Tell whether its memory may be freed later: it is in use, or is being loaded."""
        if self.ready.done():
            return bool(self.lease_count)
        return not self.waits_for_memory

    def describe_use(self) -> str:
        """Return its name, and what keeps it in memory."""
        if not self.ready.done():
            return f"{self.key} (loading)"
        many = "" if self.lease_count == 1 else "s"
        return f"{self.key} ({'pinned' if self.pinned else f'{self.lease_count} request{many}'})"
