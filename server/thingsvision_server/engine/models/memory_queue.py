"""The queue of loads that wait for memory: their order, and for which of them memory is kept.

Whoever fits is let through. What gets free is kept for the load that has waited longest, once it
has waited for `keep_seconds`: otherwise small models could pass a large model for ever.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...sources.base import ModelKey

KEEP_SECONDS = 30.0
_REMEMBERED_WAITS = 16
_SHORT_SECONDS = 1.0


@dataclass(eq=False)
class Place:
    """The place of a load in the queue."""

    key: ModelKey
    needed_bytes: int
    since: float = field(default_factory=time.monotonic)
    kept_bytes: int = 0
    """What got free while memory was kept for it."""
    granted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it has left the queue: it has its memory, or `refusal`."""
    refusal: Exception | None = None

    @property
    def waited_seconds(self) -> float:
        """Return how long it has waited."""
        return time.monotonic() - self.since


class MemoryQueue:
    """The loads that wait for memory, in the order in which they came."""

    def __init__(self, keep_seconds: float = KEEP_SECONDS) -> None:
        self._keep_seconds = keep_seconds
        self._places: list[Place] = []
        self._waits: deque[float] = deque(maxlen=_REMEMBERED_WAITS)

    def __iter__(self) -> Iterator[Place]:
        """Yield the places as they are now, whatever leaves meanwhile."""
        return iter(tuple(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, place: Place) -> bool:
        return place in self._places

    def join(self, key: ModelKey, needed_bytes: int) -> Place:
        """Add a load at the end, and return its place."""
        place = Place(key, needed_bytes)
        self._places.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Remove a load that gives up, if it is still here."""
        if place in self._places:
            self._places.remove(place)

    def grant(self, place: Place) -> None:
        """Remove a load that has its memory, and wake it."""
        self.leave(place)
        if place.waited_seconds >= _SHORT_SECONDS:
            self._waits.append(place.waited_seconds)
        place.granted.set()

    def refuse(self, place: Place, error: Exception) -> None:
        """Remove a load that can't have its memory any more, and wake it with an error."""
        self.leave(place)
        place.refusal = error
        place.granted.set()

    def number(self, place: Place) -> int:
        """Return a load's place, from 1."""
        return self._places.index(place) + 1

    @property
    def favoured(self) -> Place | None:
        """Return the load for which memory is kept, if one has waited long enough."""
        first = self._places[0] if self._places else None
        waits_long = first is not None and first.waited_seconds >= self._keep_seconds
        return first if waits_long else None

    def passed_by(self, place: Place) -> Place | None:
        """Return the load for which memory is kept, if it is another than this."""
        favoured = self.favoured
        return None if favoured is place else favoured

    def favoured_at(self, place: Place) -> float:
        """Return the time from which on memory that gets free may be kept for a load."""
        return place.since + self._keep_seconds

    def retry_seconds(self, waited_seconds: float) -> float:
        """Return when it makes sense to try again: after the median of the last waits for memory.

        If none ended in a load, after as long again as this one.
        """
        return statistics.median(self._waits) if self._waits else waited_seconds
