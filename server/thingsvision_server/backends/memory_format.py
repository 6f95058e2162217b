"""How inputs of a forward pass lie in memory, by the names of the contract; knows no framework.

Weights stay as they are, shared with all other passes: PyTorch's convolutions give their outputs
the order of their inputs, and see to the weights themselves. Features are in C order always.
"""

from __future__ import annotations

from enum import Enum


class MemoryFormat(Enum):
    """The order of a batch's values; all but the first differ in the last bits."""

    CONTIGUOUS = "contiguous"
    """Images x channels x height x width, in C order."""
    CHANNELS_LAST = "channels_last"
    """The same axes, but the channels of a pixel lie side by side."""
