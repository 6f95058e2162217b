"""How a forward pass is computed; knows no framework."""

from __future__ import annotations

from dataclasses import dataclass

from .memory_format import MemoryFormat
from .precision import Precision


@dataclass(frozen=True)
class Manner:
    """What changes a pass's last bits, or more of them, by the user's choice."""

    precision: Precision = Precision.FLOAT32
    memory_format: MemoryFormat = MemoryFormat.CONTIGUOUS
    compiled_for: int = 0
    """Images of the batches that code is compiled for; 0: nothing is compiled."""


USUAL = Manner()
"""The exact way."""
