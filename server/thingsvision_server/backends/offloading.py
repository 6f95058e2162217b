"""Models that leave their device and come back: their weights wait in the host's memory meanwhile.

Knows no framework and no budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .base import RunnableModel


@dataclass(eq=False)
class OffloadedModel:
    """What a model left in the host's memory. It is used up by either method, which may block."""

    build: Callable[[], RunnableModel] | None
    """Holds the weights, and puts them on the device again."""
    release_memory: Callable[[], None]
    """Has the system take what nobody holds any more."""

    def restore(self) -> RunnableModel:
        """Return the model, on its device again."""
        build, self.build = self.build, None
        if build is None:
            raise RuntimeError("what the model left was used up already")
        return build()

    def close(self) -> None:
        """Free the memory."""
        self.build = None
        self.release_memory()


@runtime_checkable
class OffloadableModel(Protocol):
    """A model that can leave its device and come back with the same weights."""

    def offload(self) -> OffloadedModel:
        """Close the model and keep its weights; raise MemoryError where the host has no room."""
