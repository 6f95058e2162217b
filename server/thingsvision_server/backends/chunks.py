"""Runs a model that limits the number of inputs per forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .base import BatchRun, InterruptibleModel, RunnableModel, Supported, cut
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
        self.is_foreign = model.is_foreign
        self.supported: Supported = {**model.supported, "compiled": (False,)}
        self.untried: Supported = {**model.untried, "compiled": ()}

    def run(
        self,
        inputs: Sequence[Any],
        taps: Sequence[Tap],
        options: ComputeOptions = DEFAULT,
    ) -> BatchRun:
        """Return the activations of each tap for a batch."""
        runs = [self._run(chunk, taps, options) for chunk in self._chunks(inputs)]
        rows = [np.concatenate(parts) for parts in zip(*(run.rows for run in runs), strict=True)]
        copy_seconds = sum(run.copy_seconds for run in runs)
        forward_seconds = sum(run.forward_seconds for run in runs)
        wait_seconds = sum(run.wait_seconds for run in runs)
        return BatchRun(rows, copy_seconds, forward_seconds, wait_seconds)

    def _chunks(self, inputs: Sequence[Any]) -> Iterator[Sequence[Any]]:
        count = sum(map(len, inputs))
        size = self._max_batch or count
        return (cut(inputs, start, start + size) for start in range(0, count, size))

    def _run(self, chunk: Sequence[Any], taps: Sequence[Tap], options: ComputeOptions) -> BatchRun:
        count = sum(map(len, chunk))
        padding = [chunk[-1][-1:]] * (self._min_batch - count)
        run = self._model.run([*chunk, *padding], taps, options)
        rows = [array[:count] for array in run.rows]
        return replace(run, rows=rows)

    def interrupt(self) -> None:
        """End all passes that run now, if the model can."""
        if isinstance(self._model, InterruptibleModel):
            self._model.interrupt()

    def close(self) -> None:
        """Free the device's memory."""
        self._model.close()
