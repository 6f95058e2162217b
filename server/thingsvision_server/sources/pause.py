"""Lets the imports of one thread wait a moment; knows no library.

A thread that imports keeps the interpreter busy, and whatever another thread sends meanwhile waits
for its turn message by message: a list of thousands would take seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

_MOST_SECONDS = 1.0
"""A reader who is slow, or gone, must not hold up those who wait for a library."""

_LOOK_SECONDS = 0.005


class ImportPause:
    """A finder of modules that finds none, but takes its time while others are in a hurry."""

    def __init__(self) -> None:
        self._importer: int | None = None
        self._until = 0.0

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Have this thread's imports wait for the hasty."""
        self._importer = threading.get_ident()
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)

    @contextmanager
    def hasty(self) -> Iterator[None]:
        """Have that thread's imports wait while this lasts, but not for long.

        What runs meanwhile must import nothing: it could wait for a module that waits for it.
        """
        self._until = time.monotonic() + _MOST_SECONDS
        try:
            yield
        finally:
            self._until = 0.0

    def find_spec(
        self, _name: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Find nothing, in due time: the next finder is asked."""
        while threading.get_ident() == self._importer and time.monotonic() < self._until:
            time.sleep(_LOOK_SECONDS)
        return None
