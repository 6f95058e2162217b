"""What every backend gives to the engine; knows no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import (
    InvalidRequestError,
    ModuleNeverRunsError,
    NotExtractableError,
    UnknownModuleError,
    choices,
)

Rows = npt.NDArray[np.float32]
"""Activations of one module for a batch: images x shape, C order."""


class OutOfDeviceMemoryError(Exception):
    """The device has no room for this batch; a smaller one may fit."""


@dataclass(frozen=True)
class ModuleInfo:
    """One module of a model; shapes are per image, without the image axis."""

    name: str
    type: str
    attributes: str
    depth: int
    parent: str
    parameter_count: int
    output_shape: tuple[int, ...]
    output_dtype: str
    call_count: int
    reason: str
    """Why it can't be extracted; empty where it can."""

    @property
    def row_bytes(self) -> int:
        """Length of one image's activations as float32, bytes."""
        return 4 * prod(self.output_shape)


@dataclass(frozen=True)
class Structure:
    """A model without its weights: its modules in order of execution, and its size."""

    modules: tuple[ModuleInfo, ...]
    state_bytes: int
    """Length of all parameters and buffers, bytes."""

    def taps(self, names: Sequence[str]) -> tuple[ModuleInfo, ...]:
        """Return the modules to tap, in the order asked for; raise where one can't be."""
        if not names:
            raise InvalidRequestError("no module was named; name at least one", field="modules")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            sentence = f"module {repeated[0]!r} is named twice; name each module once"
            raise InvalidRequestError(sentence, field="modules", subject=repeated[0])
        known = {module.name: module for module in self.modules}
        return tuple(_checked(name, known) for name in names)


def _checked(name: str, known: dict[str, ModuleInfo]) -> ModuleInfo:
    if name not in known:
        hint = choices(name, filter(None, known))
        raise UnknownModuleError(
            f"the model has no module {name!r}. {hint}", field="modules", subject=name
        )
    module = known[name]
    if module.call_count == 0:
        raise ModuleNeverRunsError(
            f"module {name!r} can't be extracted: {module.reason}", field="modules", subject=name
        )
    if module.reason:
        raise NotExtractableError(
            f"module {name!r} can't be extracted: {module.reason}", field="modules", subject=name
        )
    return module


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

    def run(self, inputs: Sequence[Any], taps: Sequence[ModuleInfo]) -> BatchRun:
        """Return the activations of each tap for the inputs; raise OutOfDeviceMemoryError.

        The forward pass ends after the last tap. Called on the device's own thread only.
        """

    def close(self) -> None:
        """Give the device's memory back."""
