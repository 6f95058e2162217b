"""Has the C library keep memory that was freed, where it can; knows nothing of what is held there."""

from __future__ import annotations

import ctypes
import sys

_MIB = 1024 * 1024

_OPTIONS = {
    -3: 32 * _MIB,  # M_MMAP_THRESHOLD: shorter blocks come from the heap; the most glibc takes
    -1: 64 * _MIB,  # M_TRIM_THRESHOLD: so much may lie free at the end of a heap
    -2: 16 * _MIB,  # M_TOP_PAD: a heap grows by so much at a time
}


def keep_freed_memory() -> bool:
    """Have glibc hold on to freed blocks for the next one; False where there is no glibc.

    Batches and messages of some MiB come and go all the time. By default each is mapped, faulted
    in page by page and unmapped, which costs more than to compute a cheap layer.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*option) == 1 for option in _OPTIONS.items())

