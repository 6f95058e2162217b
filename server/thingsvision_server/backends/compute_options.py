"""Options of a forward pass that affect its numerical result, by the names of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Precision(Enum):
    """How exactly a pass computes; all but the first trade exactness for speed."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class MemoryFormat(Enum):
    """The order of a batch's values in memory; all but the first differ in the last bits.

    Weights stay as they are, shared with all other passes: PyTorch's convolutions give their
    outputs the order of their inputs, and see to the weights themselves. Features are in C order
    always.
    """

    CONTIGUOUS = "contiguous"
    """Images x channels x height x width, in C order."""
    CHANNELS_LAST = "channels_last"
    """The same axes, but the channels of a pixel lie side by side."""


@dataclass(frozen=True)
class ComputeOptions:
    """What a user chose for a forward pass, where it changes the result."""

    precision: Precision = Precision.FLOAT32
    memory_format: MemoryFormat = MemoryFormat.CONTIGUOUS
    compiled_for: int = 0
    """Images of the batches that code is compiled for; 0: nothing is compiled."""


DEFAULT = ComputeOptions()
"""Exact float32."""
