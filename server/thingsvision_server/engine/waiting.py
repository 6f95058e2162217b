"""What a request is told while it waits for its model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A place in the queue for memory, or none while the model loads."""

    place: int = 0
    """The model's place in the queue, from 1; 0: it is not in the queue, but is being loaded."""
    count: int = 0
    """Models in the queue."""
    reason: str = ""
