"""Runs a model that limits the number of inputs per forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .base import BatchRun, RunnableModel, Supported
from .compute_options import DEFAULT, ComputeOptions
from .taps import Tap


class ChunkedModel:
    """A model whose forward passes take from `min_batch` to `max_batch` inputs.

    A larger batch runs in several passes; a smaller batch is padded with copies of its last input,
    whose rows are dropped.
    """

    def __init__(self, model: RunnableModel, min_batch: int, max_batch: int | None) -> None:
        self._model = model
        self._min_batch = min_batch
        self._max_batch = max_batch
        self.framework = model.framework
        self.model_sha256 = model.model_sha256
        self.resident_bytes = model.resident_bytes
        self.weights_part = model.weights_part
        self.is_concurrent = model.is_concurrent
        self.supported: Supported = {**model.supported, "compiled": (False,)}

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
        size = self._max_batch or len(inputs)
        return (inputs[start : start + size] for start in range(0, len(inputs), size))

    def _run(self, chunk: Sequence[Any], taps: Sequence[Tap], options: ComputeOptions) -> BatchRun:
        padding = [chunk[-1]] * (self._min_batch - len(chunk))
        run = self._model.run([*chunk, *padding], taps, options)
        rows = [array[: len(chunk)] for array in run.rows]
        return BatchRun(rows, run.copy_seconds, run.forward_seconds)

    def close(self) -> None:
        """Free the device's memory."""
        self._model.close()
