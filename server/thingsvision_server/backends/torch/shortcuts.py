"""Switches for the shortcuts that replace functions of PyTorch, for the whole process.

The server sets them from its options before it loads a model. A change does not affect models that
are already loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Shortcuts:
    """Which shortcuts are on; with all of them off, PyTorch does everything itself."""

    fast_max_pool: bool = True
    """Whether `max_pools` computes max pools on a CPU."""
    skip_initialisation: bool = True
    """Whether networks that get their weights from a file are built without initial values."""


SHORTCUTS = Shortcuts()


@contextmanager
def use_shortcuts(*, fast_max_pool: bool, skip_initialisation: bool) -> Iterator[None]:
    """Set the switches, and restore them on exit."""
    before = vars(SHORTCUTS).copy()
    SHORTCUTS.fast_max_pool = fast_max_pool
    SHORTCUTS.skip_initialisation = skip_initialisation
    try:
        yield
    finally:
        vars(SHORTCUTS).update(before)
