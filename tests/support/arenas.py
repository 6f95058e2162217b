"""Limit how many heaps glibc keeps for the threads of this process."""

from __future__ import annotations

import ctypes
import sys

FEW = 2
"""Arenas of a process that runs tests: each thread's own would keep what the thread has freed."""

# Of glibc's malloc.h.
_M_ARENA_MAX = -8


def limit_arenas(count: int) -> None:
    """Make new threads share so many arenas; do nothing without glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is not None and hasattr(library, "mallopt"):
        library.mallopt(_M_ARENA_MAX, count)
