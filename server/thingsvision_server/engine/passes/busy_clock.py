"""Measures for how long a device is at work, however many lanes it has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class BusyClock:
    """Reports the seconds during which at least one piece of work ran. Thread-safe."""

    def __init__(self, report: Callable[[float], object]) -> None:
        self._report = report
        self._running_count = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Count a piece of work that begins."""
        with self._lock:
            if not self._running_count:
                self._since = time.monotonic()
            self._running_count += 1

    def end(self) -> None:
        """Count a piece of work that ends, and report the time since the last report."""
        with self._lock:
            self._report_passed()
            self._running_count -= 1

    def note(self) -> None:
        """Report the time since the last report, if anything runs: a pass may take a minute."""
        with self._lock:
            if self._running_count:
                self._report_passed()

    def _report_passed(self) -> None:
        now = time.monotonic()
        self._report(now - self._since)
        self._since = now
