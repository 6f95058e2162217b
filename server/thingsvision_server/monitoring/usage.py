"""Counts what each person uses of the server: seconds, images, bytes, refusals."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

OTHERS = "other"
"""Whom the use of too many people is counted for."""

_MOST_PEOPLE = 1000
"""People with an account of their own, so that memory is bounded where a person is an address."""

_RECENT_SECONDS = 60
_RECENT = frozenset(("device_seconds", "image_count"))
"""The fields of usage of which the last minute is known, too."""


@dataclass
class Usage:
    """What a person has used since the server started, and has in progress now."""

    device_seconds: float = 0.0
    """Seconds of the whole device."""
    decode_seconds: float = 0.0
    """Seconds of the threads that decode and preprocess images."""
    computation_seconds: float = 0.0
    """Seconds of RDMs, PCAs and checks of uploaded files."""
    wait_seconds: float = 0.0
    """Seconds that images waited for the device, added up."""
    stalled_seconds: float = 0.0
    """Seconds that calls waited for their client to send or to read, added up."""
    image_count: int = 0
    """Images whose rows were computed."""
    received_bytes: int = 0
    """Bytes of images, features and files that the person sent."""
    sent_bytes: int = 0
    """Bytes of replies."""
    queued_count: int = 0
    """Images that are ready and wait for the device now."""
    call_count: int = 0
    """Calls in progress now."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Calls that were refused or ended by the server, by the class of their error."""


@dataclass
class RecentUse:
    """What a person has used in the last minute, and has in progress now."""

    device_seconds: float = 0.0
    """Seconds of the whole device."""
    image_count: int = 0
    """Images whose rows were computed."""
    queued_count: int = 0
    """Images that are ready and wait for the device."""
    queued_seconds: float = 0.0
    """How long the image has waited that waits longest; 0: none waits."""
    call_count: int = 0
    """Calls in progress."""


@dataclass
class _Recent:
    """The latest amounts of a person, and since when the queues of the person's calls wait."""

    seconds: deque[tuple[int, dict[str, float]]] = field(default_factory=deque)
    """The amounts of each second of the clock with any, the oldest first."""
    waiting: dict[Hashable, float] = field(default_factory=dict)
    """When the oldest image of each queue became ready."""

    def drop_old(self, second: int) -> None:
        """Forget what was used more than a minute ago."""
        while self.seconds and self.seconds[0][0] <= second - _RECENT_SECONDS:
            self.seconds.popleft()

    def add(self, second: int, name: str, amount: float) -> None:
        """Add an amount to those of the second."""
        self.drop_old(second)
        if not self.seconds or self.seconds[-1][0] < second:
            self.seconds.append((second, {}))
        amounts = self.seconds[-1][1]
        amounts[name] = amounts.get(name, 0) + amount

    def total(self, name: str) -> float:
        """Return what was added in the last minute."""
        return sum(amounts.get(name, 0) for _, amounts in self.seconds)


class UsageBook:
    """The usage of each person. Thread-safe.

    Args:
        clock: Returns seconds, as `time.monotonic` does.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._people: dict[str, Usage] = {}
        self._recent: dict[str, _Recent] = {}
        self._lock = threading.Lock()
        self._clock = clock

    def add(self, person: str, **amounts: float) -> None:
        """Add amounts to fields of a person's usage."""
        with self._lock:
            usage = self._find(person)
            for name, amount in amounts.items():
                setattr(usage, name, getattr(usage, name) + amount)
                if name in _RECENT:
                    self._find_recent(person).add(int(self._clock()), name, amount)

    def note_oldest(self, person: str, queue: Hashable, ready_at: float | None) -> None:
        """Note when the oldest image in a person's queue became ready; None: the queue is empty."""
        with self._lock:
            waiting = self._find_recent(person).waiting
            if ready_at is None:
                waiting.pop(queue, None)
            else:
                waiting[queue] = ready_at

    def add_refusal(self, person: str, reason: str) -> None:
        """Count a call of a person that was refused."""
        with self._lock:
            self._find(person).refusals[reason] += 1

    def copy(self) -> Mapping[str, Usage]:
        """Return the usage of each person as it is now, in the order of their first calls."""
        with self._lock:
            return {
                name: replace(usage, refusals=Counter(usage.refusals))
                for name, usage in self._people.items()
            }

    def recent(self) -> Mapping[str, RecentUse]:
        """Return what each person has used in the last minute and has in progress."""
        with self._lock:
            now = self._clock()
            return {
                name: self._recent_use(name, usage, now) for name, usage in self._people.items()
            }

    def oldest_wait_seconds(self) -> float:
        """Return how long the image has waited for the device that waits longest; 0: none waits."""
        with self._lock:
            since = [one for recent in self._recent.values() for one in recent.waiting.values()]
            return max(0.0, self._clock() - min(since)) if since else 0.0

    def _recent_use(self, name: str, usage: Usage, now: float) -> RecentUse:
        found = RecentUse(queued_count=usage.queued_count, call_count=usage.call_count)
        recent = self._recent.get(name)
        if recent is not None:
            recent.drop_old(int(now))
            found.device_seconds = recent.total("device_seconds")
            found.image_count = int(recent.total("image_count"))
            oldest = min(recent.waiting.values(), default=now)
            found.queued_seconds = max(0.0, now - oldest)
        return found

    def _find(self, person: str) -> Usage:
        label = self._label(person)
        return self._people.get(label) or self._people.setdefault(label, Usage())

    def _find_recent(self, person: str) -> _Recent:
        label = self._label(person)
        return self._recent.get(label) or self._recent.setdefault(label, _Recent())

    def _label(self, person: str) -> str:
        """Return whom a person's use is counted for."""
        is_full = person not in self._people and len(self._people) >= _MOST_PEOPLE
        return OTHERS if is_full else person
