"""What is done with images alike, from a forward pass to rows to send; knows no stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.base import BatchRun, RunnableModel
from ...backends.compute_options import DEFAULT, ComputeOptions
from ...backends.taps import Tap
from ...inputs import InputSpec
from ..pca.fitted import PCA
from ..reduction import WHOLE, Reduction

Overflows = npt.NDArray[np.int64]
"""Per image, how many values an element type can't hold."""


@dataclass(frozen=True)
class Work:
    """Images with the same work may share a forward pass."""

    taps: tuple[Tap, ...]
    spec: InputSpec
    options: ComputeOptions = DEFAULT
    pass_size: int = 0
    """Images of every pass, filled up with its last one; 0: as many as there are."""
    reduction: Reduction = WHOLE
    dtype: str = "float32"
    """Of the rows: `float32` or `float16`."""
    pca: PCA | None = None
    """Of reduced rows: their scores take their place."""

    @property
    def reduced_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's row before the PCA, by tap; raises where it can't be reduced so."""
        return {tap.name: self.reduction.shape(tap.name, tap.output_shape) for tap in self.taps}

    @property
    def row_shapes(self) -> list[tuple[int, ...]]:
        """Shape of one image's row per tap; raises where it can't be reduced so."""
        shapes = list(self.reduced_shapes.values())
        if self.pca is None:
            return shapes
        return [(self.pca.record.description.component_count,)] * len(shapes)

    def run(self, model: RunnableModel, inputs: Sequence[Any]) -> tuple[BatchRun, Overflows]:
        """Return the rows of each tap, and what of them overflowed."""
        filling = [inputs[-1]] * (self.pass_size - len(inputs))
        run = model.run([*inputs, *filling], self.taps, self.options)
        if filling:
            run = replace(run, rows=[rows[: len(inputs)] for rows in run.rows])
        if self.reduction != WHOLE:
            run = replace(run, rows=[self.reduction.apply(rows) for rows in run.rows])
        if self.pca is not None:
            axes = [self.pca.modules[tap.name] for tap in self.taps]
            pairs = zip(axes, run.rows, strict=True)
            run = replace(run, rows=[one.scores(rows) for one, rows in pairs])
        overflows = np.zeros(len(inputs), np.int64)
        if self.dtype == "float16":
            run = replace(run, rows=[_halved(rows, overflows) for rows in run.rows])
        return run, overflows


def _halved(rows: Any, overflows: Overflows) -> Any:
    """Return the rows as float16, and count what became infinite."""
    import torch  # its conversion is 15 times as fast as numpy's

    half = torch.from_numpy(rows).half().numpy()
    lost = np.isinf(half) & np.isfinite(rows)
    overflows += lost.reshape(len(rows), -1).sum(1)
    return half
