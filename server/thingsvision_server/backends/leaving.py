"""Models that leave their device and come back: their weights wait in the host's memory meanwhile.

Knows no framework and no budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .base import RunnableModel


@dataclass(eq=False)
class HostModel:
    """What a model left in the host's memory. It is used up by either method, which may block."""

    build: Callable[[], RunnableModel] | None
    """Holds the weights, and puts them on the device again."""
    give_memory_back: Callable[[], None]
    """Has the system take what nobody holds any more."""

    def back(self) -> RunnableModel:
        """Return the model, on its device again."""
        build, self.build = self.build, None
        if build is None:
            raise RuntimeError("what the model left was used up already")
        return build()

    def close(self) -> None:
        """Free the memory."""
        self.build = None
        self.give_memory_back()


@runtime_checkable
class LeavingModel(Protocol):
    """A model that can leave its device and come back with the same weights."""

    def leave(self) -> HostModel:
        """Close the model and keep its weights; raise MemoryError where the host has no room."""
