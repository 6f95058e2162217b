"""Counts what somebody has used within about an hour: a bucket that empties evenly."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

_HOUR_SECONDS = 3600.0


@dataclass
class HourlyUse:
    """Seconds that were used, less those that were forgotten since."""

    used_seconds: float = 0.0
    counted_at: float = field(default_factory=lambda: monotonic())

    def add(self, seconds: float) -> None:
        """Count seconds more, or fewer."""
        self.used_seconds += seconds

    def seconds(self, limit: float) -> float:
        """Return what is counted now, if as much as `limit` is forgotten in an hour."""
        now = monotonic()
        forgotten = limit * (now - self.counted_at) / _HOUR_SECONDS
        self.used_seconds = max(0.0, self.used_seconds - forgotten)
        self.counted_at = now
        return self.used_seconds
