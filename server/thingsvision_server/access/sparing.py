"""Lets the first events of each second be written, and counts the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MOST = 20
"""Events a second that are written one by one: a stranger with a loop would fill the disk."""


class Sparing:
    """Says which events may be written; threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._second = -1
        self._count = 0
        self._left_out_count = 0

    def take(self) -> int | None:
        """Return how many events were left out since the last that was written.

        None if this event is to be left out, too.
        """
        with self._lock:
            second = int(self._clock())
            if second != self._second:
                self._second, self._count = second, 0
            self._count += 1
            if self._count > _MOST:
                self._left_out_count += 1
                return None
            left_out, self._left_out_count = self._left_out_count, 0
            return left_out
