"""What every backend gives to the engine; knows no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .compute_options import DEFAULT, ComputeOptions, MemoryFormat, Precision
from .taps import Tap

Rows = npt.NDArray[np.float32]
"""Activations of one module for a batch: images x shape, C order."""


class OutOfDeviceMemoryError(Exception):
    """The device has no room for this batch; a smaller one may fit."""


@dataclass(frozen=True)
class BatchRun:
    """What one forward pass gave: the rows of each tap, and where its time went."""

    rows: list[Rows]
    copy_seconds: float
    """Collecting the inputs and starting their way to the device."""
    forward_seconds: float
    """The pass, and the rows' way back."""


class RunnableModel(Protocol):
    """A model with weights on a device."""

    framework: str
    model_sha256: str
    resident_bytes: int
    is_concurrent: bool
    """Whether several threads may be in `run` at once."""

    precisions: Sequence[Precision]
    """What `run` can compute in."""

    memory_formats: Sequence[MemoryFormat]
    """How its inputs may lie."""

    can_compile: bool
    """Whether `run` can compile its passes."""

    def run(
        self,
        inputs: Sequence[Any],
        taps: Sequence[Tap],
        options: ComputeOptions = DEFAULT,
    ) -> BatchRun:
        """Return the activations of each tap for the inputs; raise OutOfDeviceMemoryError.

        The forward pass ends after the last tap. Called on the device's own threads only.
        """

    def close(self) -> None:
        """Give the device's memory back."""
