"""The interface between backends and the engine: a model that runs, and what a run returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from .compute_options import DEFAULT, ComputeOptions
from .taps import Tap

Rows = npt.NDArray[np.float32]
"""Activations of one module for a batch: images x shape, C order."""


Supported = Mapping[str, Sequence[Any]]
"""Values that a model can compute with, by the name of a field of ComputeOptions."""

DEFAULT_ONLY: Supported = MappingProxyType({})


class OutOfDeviceMemoryError(Exception):
    """The device is out of memory for this batch; a smaller batch may fit."""


class NetworkError(RuntimeError):
    """The network's own code failed in a pass; `shape` is that of one input, empty if unknown."""

    def __init__(self, reason: str, shape: tuple[int, ...] = ()) -> None:
        super().__init__(reason)
        self.shape = shape


def describe_changed_shape(module: str, found: Sequence[int], expected: Sequence[int]) -> str:
    """Return why outputs of a shape that depends on the images can't be rows of features."""
    return (
        f"module {module!r} returned {list(found)} instead of {list(expected)}: the shape of its "
        "output depends on the values in the images, and rows of features must be equally long; "
        "request a module before it"
    )


@dataclass(frozen=True)
class BatchRun:
    """The result of one forward pass: the rows of each tap, and the time it took."""

    rows: list[Rows]
    copy_seconds: float
    """Joining the inputs and starting their copy to the device."""
    forward_seconds: float
    """The pass, and copying the rows back."""
    wait_seconds: float = 0.0
    """Waiting for the last copies from the device, a part of `forward_seconds`."""


def join(pieces: Sequence[Any]) -> Any:
    """Return the pieces of a batch as one array; a single piece as it is."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def cut(pieces: Sequence[Any], start: int, stop: int) -> list[Any]:
    """Return the images from `start` up to `stop` of the pieces of a batch, in the same memory."""
    ends = list(accumulate(map(len, pieces)))
    parts = [
        piece[max(0, start - end + len(piece)) : max(0, stop - end + len(piece))]
        for piece, end in zip(pieces, ends, strict=True)
    ]
    return [part for part in parts if len(part)]


class RunnableModel(Protocol):
    """A model with weights on a device."""

    framework: str
    model_sha256: str
    resident_bytes: int
    weights_part: str
    """The part of an uploaded file that its weights are; empty if it is the whole file."""
    is_concurrent: bool
    """Whether several threads may call `run` at once."""

    is_foreign: bool
    """Whether its memory is not PyTorch's in this process."""

    supported: Supported
    """Values of ComputeOptions that `run` supports; of an option that is missing, its default."""
    untried: Supported
    """Values that it could compute with, but which no check has run on its device yet."""

    def run(
        self,
        inputs: Sequence[Any],
        taps: Sequence[Tap],
        options: ComputeOptions = DEFAULT,
    ) -> BatchRun:
        """Return the activations of each tap for a batch; raise OutOfDeviceMemoryError.

        `inputs` are the pieces of the batch, one or more, each images x shape. The forward
        pass stops after the last tap. Call it on the device's own threads only.
        """

    def close(self) -> None:
        """Free the device's memory."""


@runtime_checkable
class InterruptibleModel(Protocol):
    """A model whose passes can be ended while they run."""

    def interrupt(self) -> None:
        """End all passes that run now; each raises BackendCrashedError."""
