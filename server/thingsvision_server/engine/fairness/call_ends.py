"""Estimates when one of a person's calls ends, for who waits for that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_UNKNOWN_SECONDS = 2.0
_LEAST_SECONDS, _MOST_SECONDS = 1.0, 60.0
_NEW_WEIGHT = 0.2


class CallEnds:
    """The mean time of a person's calls, newer ones weighted more."""

    def __init__(self) -> None:
        self._mean_seconds: float | None = None

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Measure a call, which lasts as long as the context."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.observe(time.monotonic() - started)

    def observe(self, seconds: float) -> None:
        """Note how long a call took."""
        before = seconds if self._mean_seconds is None else self._mean_seconds
        self._mean_seconds = before + _NEW_WEIGHT * (seconds - before)

    def expected_seconds(self, call_count: int) -> float:
        """Return after how many seconds the first of so many calls is expected to end."""
        if self._mean_seconds is None:
            return _UNKNOWN_SECONDS
        expected = self._mean_seconds / max(1, call_count)
        return min(_MOST_SECONDS, max(_LEAST_SECONDS, expected))
