"""How much of a device's memory models may use, beside passes and other processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_LEAST_SHARE = 20
"""The part of the device that passes get at least, before any was measured: one of so many."""


class Templates(Protocol):
    """What child processes are forked from, which takes memory of the host beside models."""

    @property
    def used_bytes(self) -> int:
        """The memory that they take now."""

    @property
    def unused_bytes(self) -> int:
        """The part of it that can be had, as no child needs it."""

    def end_unused(self) -> None:
        """Free that part."""


class NoTemplates:
    """None of them: on a GPU they take none of its memory."""

    used_bytes = unused_bytes = 0

    def end_unused(self) -> None:
        """Free nothing."""


@dataclass(frozen=True)
class DeviceUse:
    """What a device's memory is used for, bytes."""

    total_bytes: int
    used_bytes: int
    """By all processes."""
    own_bytes: int
    """By PyTorch in this process, for models and passes; kept free memory included."""

    @property
    def other_bytes(self) -> int:
        """Return what TensorFlow, onnxruntime, CUDA itself and other processes use."""
        return max(0, self.used_bytes - self.own_bytes)


@dataclass(frozen=True)
class ModelBudget:
    """The budget for models: `chosen_bytes` by the user (0: not chosen), and what is there.

    `use` is None on a CPU, where memory of others comes and goes, and only `chosen_bytes` counts.
    """

    chosen_bytes: int
    use: Callable[[], DeviceUse] | None = None

    def bytes_beside(self, pass_bytes: int, foreign_model_bytes: int) -> int:
        """Return the bytes for models now, 0 at least.

        `pass_bytes` is the measured peak of passes, `foreign_model_bytes` what models outside
        PyTorch use: it is in the device's figure for others, but counts as that of models.
        """
        if self.use is None:
            return self.chosen_bytes
        use = self.use()
        others = max(0, use.other_bytes - foreign_model_bytes)
        left = use.total_bytes - others - max(pass_bytes, use.total_bytes // _LEAST_SHARE)
        return max(0, min(left, self.chosen_bytes) if self.chosen_bytes else left)
