"""What every backend gives to the engine; knows no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..inputs import IMAGE
from .manner import USUAL, Manner
from .memory_format import MemoryFormat
from .precision import Precision
from .taps import Tap

Rows = npt.NDArray[np.float32]
"""Activations of one module for a batch: images x shape, C order."""


class OutOfDeviceMemoryError(Exception):
    """The device has no room for this batch; a smaller one may fit."""


@dataclass(frozen=True)
class CallInfo:
    """One call of a module in a forward pass; the shape is per image, without the image axis."""

    shape: tuple[int, ...] = ()
    dtype: str = ""
    reason: str = ""
    """Why it can't be extracted; empty where it can."""


@dataclass(frozen=True)
class ModuleInfo:
    """One module of a model, with its calls in one forward pass in their order."""

    name: str
    type: str
    attributes: str
    depth: int
    parent: str
    parameter_count: int
    calls: tuple[CallInfo, ...]
    reason: str = ""
    """Why its last call can't be extracted; empty where it can."""
    modality: str = IMAGE
    """What the part of the model that it belongs to sees."""
    prefix_tokens: int | None = None
    """Special tokens before those of patches in its output; None: it is no token sequence."""
    has_class_token: bool = False
    """Whether the first of them is the class token."""

    @property
    def last(self) -> CallInfo:
        """Return the last call."""
        return self.calls[-1] if self.calls else CallInfo()


@dataclass(frozen=True)
class Structure:
    """A model without its weights: its modules in order of execution, and its size."""

    modules: tuple[ModuleInfo, ...]
    state_bytes: int
    """Length of all parameters and buffers, bytes."""
    is_provisional: bool = False
    """Whether it may change: a file that decides what can be extracted is not here yet."""


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
        manner: Manner = USUAL,
    ) -> BatchRun:
        """Return the activations of each tap for the inputs; raise OutOfDeviceMemoryError.

        The forward pass ends after the last tap. Called on the device's own threads only.
        """

    def close(self) -> None:
        """Give the device's memory back."""
