"""Runs a model that takes only so many inputs at once; knows no framework."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .base import BatchRun, RunnableModel
from .compute_options import DEFAULT, ComputeOptions
from .taps import Tap


class ChunkedModel:
    """A model whose batches have at least `least` and at most `most` inputs.

    A larger batch runs in several passes; a smaller one is filled up with its last input, whose
    rows are dropped.
    """

    def __init__(self, model: RunnableModel, least: int, most: int | None) -> None:
        self._model = model
        self._least = least
        self._most = most
        self.framework = model.framework
        self.model_sha256 = model.model_sha256
        self.resident_bytes = model.resident_bytes
        self.is_concurrent = model.is_concurrent
        self.precisions = model.precisions
        self.memory_formats = model.memory_formats
        self.can_compile = False

    def run(
        self,
        inputs: Sequence[Any],
        taps: Sequence[Tap],
        options: ComputeOptions = DEFAULT,
    ) -> BatchRun:
        """Return the activations of each tap for the inputs."""
        runs = [self._run(chunk, taps, options) for chunk in self._chunks(inputs)]
        rows = [np.concatenate(parts) for parts in zip(*(run.rows for run in runs), strict=True)]
        copy_seconds = sum(run.copy_seconds for run in runs)
        return BatchRun(rows, copy_seconds, sum(run.forward_seconds for run in runs))

    def _chunks(self, inputs: Sequence[Any]) -> Iterator[Sequence[Any]]:
        size = self._most or len(inputs)
        return (inputs[start : start + size] for start in range(0, len(inputs), size))

    def _run(self, chunk: Sequence[Any], taps: Sequence[Tap], options: ComputeOptions) -> BatchRun:
        filling = [chunk[-1]] * (self._least - len(chunk))
        run = self._model.run([*chunk, *filling], taps, options)
        rows = [array[: len(chunk)] for array in run.rows]
        return BatchRun(rows, run.copy_seconds, run.forward_seconds)

    def close(self) -> None:
        """Give the device's memory back."""
        self._model.close()
