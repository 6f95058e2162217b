"""A mode of the whole process that threads need in different states: they take turns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedMode:
    """A mode that `switch` sets. Threads that need it alike run together, others wait.

    Turns are in order of arrival: a thread also waits if another, which needs the mode differently,
    came before it, so that none waits for ever.
    """

    def __init__(self, switch: Callable[[str], None], state: str) -> None:
        self._switch = switch
        self._state = state
        self._user_count = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def use(self, state: str) -> Iterator[None]:
        """Hold the mode in this state while the context lasts."""
        with self._changed:
            self._enter(state)
        try:
            yield
        finally:
            with self._changed:
                self._user_count -= 1
                self._changed.notify_all()

    def _enter(self, state: str) -> None:
        turn = object()
        self._waiting.append(turn)
        while self._waiting[0] is not turn or (self._user_count and state != self._state):
            self._changed.wait()
        self._waiting.popleft()
        if state != self._state:
            self._switch(state)
            self._state = state
        self._user_count += 1
        self._changed.notify_all()
