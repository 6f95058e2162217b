"""The attempts of one call: how many, when, and until when."""

from __future__ import annotations

import random
import time

CONNECTING_SECONDS = 15.0
"""gRPC limits each step of connecting, but not all of them, and not with every name resolver."""

ROOM_SECONDS = 600.0
"""How long a call waits until the same person's other calls leave room for it."""

_MOST_ATTEMPTS = 4
_FIRST_WAIT_SECONDS = 0.2
_WAIT_FACTOR = 3.0
_JITTER = 0.2
_MOST_LOST_SERVERS = 2


class Attempts:
    """Counts the attempts of a call that may last `timeout_s` from start to end (None: no limit).

    gRPC's own retries are switched off: a retry whose timer is cancelled early leaves the call
    hanging, deadline or not (grpc/grpc issue 41036), and streams have lost messages. `lost_servers`
    is the number of servers that died while they had the call.
    """

    def __init__(self, timeout_s: float | None, lost_servers: int = 0) -> None:
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._left_count = _MOST_ATTEMPTS - 1
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._connecting_deadline = 0.0
        self._room_deadline = time.monotonic() + ROOM_SECONDS
        self.lost_servers = lost_servers
        self.told = False
        """Whether the call has waited for room, which was said."""
        self.start_connecting()

    def note_lost_server(self) -> bool:
        """Note that a server died which had the call; return whether no other may have it."""
        self.lost_servers += 1
        if self.lost_servers >= _MOST_LOST_SERVERS:
            self._left_count = 0
        return self.lost_servers >= _MOST_LOST_SERVERS

    def start_connecting(self) -> None:
        """Give the call its time for connecting from now on."""
        self._connecting_deadline = time.monotonic() + CONNECTING_SECONDS

    def connecting_seconds(self) -> float:
        """Return how long the call may still take to connect."""
        return max(0.0, self._connecting_deadline - time.monotonic())

    def left_seconds(self) -> float | None:
        """Return how long the call may still last; None means no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def wait_for_room(self, seconds: float) -> bool:
        """Wait as long as a server asks, or return False at once if the call has no time left."""
        wait = seconds * random.uniform(1, 1 + _JITTER)  # noqa: S311
        left = self.left_seconds()
        most = self._room_deadline - time.monotonic()
        if wait >= (most if left is None else min(left, most)):
            return False
        self.told = True
        time.sleep(wait)
        self.start_connecting()
        return True

    def wait_for_next(self) -> bool:
        """Wait before another attempt, or return False at once if there is none."""
        wait = self._wait_seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        left = self.left_seconds()
        most = self.connecting_seconds() if left is None else min(left, self.connecting_seconds())
        if not self._left_count or wait >= most:
            return False
        time.sleep(wait)
        self._left_count -= 1
        self._wait_seconds *= _WAIT_FACTOR
        return True
