"""Options of a forward pass that affect its numerical result, by the names of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


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
    """A user's choices for a forward pass that affect its numerical result: one field per option.

    Each field is a bool or an Enum of the contract's words, named as in ExtractHeader and
    Provenance. Checks, messages, provenance and PCA files iterate over the fields.
    """

    precision: Precision = Precision.FLOAT32
    memory_format: MemoryFormat = MemoryFormat.CONTIGUOUS
    compiled: bool = False
    """Whether passes run as code compiled for one batch size."""

    def to_dict(self) -> dict[str, Any]:
        """Return the options by name, with the values that JSON and Provenance use."""
        return {name: getattr(value, "value", value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ComputeOptions:
        """Return the options of a dict from `to_dict`; missing options get their defaults.

        Raises ValueError for an invalid value.
        """
        defaults = vars(DEFAULT).items()
        return cls(**{name: type(usual)(values.get(name, usual)) for name, usual in defaults})


DEFAULT = ComputeOptions()
"""Exact float32."""
