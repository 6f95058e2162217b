"""Has the C library keep the memory that is freed for what comes next; knows nothing of its use."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

_MOST = 2**31 - 1

_OPTIONS = {
    # One heap for all threads: the others' hold no block above 64 MiB.
    "MALLOC_ARENA_MAX": (-8, 1),
    # Blocks shorter than this come from the heap.
    "MALLOC_MMAP_THRESHOLD_": (-3, _MOST),
    # So much may lie free at the heap's end.
    "MALLOC_TRIM_THRESHOLD_": (-1, _MOST),
    # The heap grows by so much at a time.
    "MALLOC_TOP_PAD_": (-2, 64 * 1024**2),
}
"""Of glibc: as variables of a process' environment, and as arguments of `mallopt`."""

KEEP_FREED_MEMORY: Mapping[str, str] = {name: str(value) for name, (_, value) in _OPTIONS.items()}
"""The environment of a process that is to do the same."""


def keep_freed_memory() -> None:
    """Have glibc reuse freed blocks of any length; elsewhere nothing is done.

    Activations of some hundred MB come and go with every layer. By default each is mapped, faulted
    in page by page, and unmapped: nearly half of a convolutional network's time on a CPU. Call
    it before there are threads.
    """
    library = _library("mallopt")
    if library is not None:
        for option in _OPTIONS.values():
            library.mallopt(*option)


def release_freed_memory() -> None:
    """Have the system take what lies free, where that is possible."""
    library = _library("malloc_trim")
    if library is not None:
        library.malloc_trim(0)


def _library(function: str) -> ctypes.CDLL | None:
    """Return the C library if it has a function of glibc's."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if library is not None and hasattr(library, function) else None
