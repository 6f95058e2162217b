"""Offloading: moves a model's weights to the host's memory, and restores the model later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .base import RunnableModel


@dataclass(eq=False)
class OffloadedModel:
    """A model's weights in the host's memory. Call one of the methods, once; either may block."""

    build: Callable[[], RunnableModel] | None
    """Holds the weights, and moves them back to the device."""
    release_memory: Callable[[], None]
    """Returns freed memory to the system."""

    def restore(self) -> RunnableModel:
        """Return the model, back on its device."""
        build, self.build = self.build, None
        if build is None:
            raise RuntimeError("the offloaded model was already restored or closed")
        return build()

    def close(self) -> None:
        """Free the memory."""
        self.build = None
        self.release_memory()


@runtime_checkable
class OffloadableModel(Protocol):
    """A model whose weights can be moved to the host's memory and back."""

    def offload(self) -> OffloadedModel:
        """Close the model and keep its weights; raise MemoryError if the host is out of memory."""
