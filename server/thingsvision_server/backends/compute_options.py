"""Options of a forward pass that affect its numerical result, by the names of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Precision(Enum):
    """The arithmetic of a forward pass; all but the first trade exactness for speed."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class MemoryFormat(Enum):
    """The memory layout of a batch; results in all but the first differ in the last bits.

    Weights keep their layout and stay shared with all other passes: PyTorch's convolutions return
    outputs in the layout of their inputs and convert the weights themselves. Features are always
    in C order.
    """

    CONTIGUOUS = "contiguous"
    """Images x channels x height x width, in C order."""
    CHANNELS_LAST = "channels_last"
    """The same axes, with the channels of a pixel adjacent in memory."""


@dataclass(frozen=True)
class ComputeOptions:
    """What a user chose for a forward pass, where it changes the result."""

    precision: Precision = Precision.FLOAT32
    memory_format: MemoryFormat = MemoryFormat.CONTIGUOUS
    compiled_for: int = 0
    """Images of the batches that code is compiled for; 0: nothing is compiled."""


DEFAULT = ComputeOptions()
"""Exact float32."""
