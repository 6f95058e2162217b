"""Switches of the PyTorch backend, for the whole process, most of them for shortcuts in PyTorch.

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
    untried_options: bool = False
    """Whether options of a pass are offered on a GPU where no check has run them yet."""


SHORTCUTS = Shortcuts()


@contextmanager
def use_shortcuts(
    *, fast_max_pool: bool, skip_initialisation: bool, untried_options: bool = False
) -> Iterator[None]:
    """Set the switches, and restore them on exit."""
    before = vars(SHORTCUTS).copy()
    SHORTCUTS.fast_max_pool = fast_max_pool
    SHORTCUTS.skip_initialisation = skip_initialisation
    SHORTCUTS.untried_options = untried_options
    try:
        yield
    finally:
        vars(SHORTCUTS).update(before)
