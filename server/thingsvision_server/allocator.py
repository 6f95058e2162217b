"""Keeps freed memory for reuse, and returns it to the system on request."""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path

_MOST = 2**31 - 1

_OPTIONS = {
    # One heap for all threads: heaps of other threads hold no block above 64 MiB.
    "MALLOC_ARENA_MAX": (-8, 1),
    # Blocks smaller than this come from the heap.
    "MALLOC_MMAP_THRESHOLD_": (-3, _MOST),
    # How much free memory may stay at the end of the heap.
    "MALLOC_TRIM_THRESHOLD_": (-1, _MOST),
    # How much the heap grows at a time.
    "MALLOC_TOP_PAD_": (-2, 64 * 1024**2),
}
"""Options of glibc: environment variables, and the arguments of `mallopt`."""

KEEP_FREED_MEMORY: Mapping[str, str] = {name: str(value) for name, (_, value) in _OPTIONS.items()}
"""The environment of a child process that should do the same."""


def keep_freed_memory() -> None:
    """Make glibc reuse freed blocks of any size; do nothing without glibc.

    Every layer allocates and frees activations of some hundred MB. By default each is mapped,
    faulted in page by page, and unmapped: nearly half of a convolutional network's time on a CPU.
    Call this before threads are started.
    """
    library = _library("mallopt")
    if library is not None:
        for option in _OPTIONS.values():
            library.mallopt(*option)


def use_expandable_segments(environment: MutableMapping[str, str]) -> None:
    """Have PyTorch grow its blocks of GPU memory in place, so that other sizes find room later.

    It reads this when it is imported. A choice of the user stays; on Tegra boards and under WSL
    drivers refuse it.
    """
    is_refused = Path("/etc/nv_tegra_release").exists() or "microsoft" in platform.release().lower()
    if sys.platform == "linux" and not is_refused and not _SEGMENTS.intersection(environment):
        environment["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"


_SEGMENTS = frozenset({"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"})
"""Variables that PyTorch reads; the second is the older name."""


class _Collections:
    """Whether collections of garbage wait for the end of a group of closes."""

    is_postponed = False


def collect_garbage() -> None:
    """Free what only refers to itself, such as a network's graphs, unless that is postponed."""
    if not _Collections.is_postponed:
        gc.collect()


@contextmanager
def one_collection() -> Iterator[None]:
    """Collect garbage once, at the end, for all models that are closed meanwhile.

    Each collection looks at the objects of all models in memory: half a second with 200 networks.
    """
    _Collections.is_postponed = True
    try:
        yield
    finally:
        _Collections.is_postponed = False
        gc.collect()
        release_freed_memory()


def release_freed_memory() -> None:
    """Return freed memory to the system; do nothing without glibc."""
    library = _library("malloc_trim")
    if library is not None:
        library.malloc_trim(0)


def _library(function: str) -> ctypes.CDLL | None:
    """Return the C library if it has this function of glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if library is not None and hasattr(library, function) else None
