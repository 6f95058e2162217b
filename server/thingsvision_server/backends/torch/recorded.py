"""Records the operations of a compiled pass once, and replays them as one: a CUDA graph.

A small kernel takes less time than its launch. A recording works on memory that stays, so each call
copies its batch in and its outputs out; the kernels, and so the bits, are those of the pass itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

Outputs = Mapping[str, Sequence[torch.Tensor]]
"""Outputs of modules by name, one per call."""

Pass = Callable[[torch.Tensor], Outputs]


@dataclass(frozen=True)
class Recording:
    """Operations that were recorded, and the memory of their outputs."""

    outputs: Outputs
    replay: Callable[[], object]
    """Queue them again, where the calling thread queues now."""


class Recorder(Protocol):
    """Records on one device."""

    def record(self, work: Callable[[], Outputs]) -> Recording:
        """Record what some work queues."""

    def mark(self) -> Any:
        """Return a mark after all that the calling thread has queued."""

    def wait(self, mark: Any) -> None:
        """Let what the calling thread queues from now on begin after a mark."""


class RecordedPass:
    """A pass for batches of one shape, recorded for the first of them; threads may share it."""

    def __init__(self, whole: Pass, batch: torch.Tensor, recorder: Recorder) -> None:
        self._recorder = recorder
        self._input = batch.clone()
        self._recording = recorder.record(partial(whole, self._input))
        self._lock = threading.Lock()
        self._copied: Any = None
        """The mark after the last call's copies."""

    def __call__(self, batch: torch.Tensor) -> Outputs:
        """Return the outputs for a batch, in memory of their own."""
        with self._lock:
            if self._copied is not None:  # another lane's copies may still be queued
                self._recorder.wait(self._copied)
            self._input.copy_(batch)
            self._recording.replay()
            found = {
                name: [one.clone() for one in calls]
                for name, calls in self._recording.outputs.items()
            }
            self._copied = self._recorder.mark()
        return found
