"""Turns a batch of inputs into rows to send: forward pass, reduction, PCA, element type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.base import BatchRun, RunnableModel
from ...backends.compute_options import DEFAULT, ComputeOptions
from ...backends.modules import FEATURES, Axes
from ...backends.taps import Tap
from ...inputs import InputSpec
from ..pca.fitted import PCA
from ..reduction import NO_REDUCTION, Reduction
from .limits import ImageCost, predict_cost

Overflows = npt.NDArray[np.int64]
"""Per image, how many finite values are infinite in the element type."""


@dataclass(frozen=True)
class ForwardSpec:
    """What a forward pass computes; images with equal specs may share a pass."""

    taps: tuple[Tap, ...]
    input_spec: InputSpec
    options: ComputeOptions = DEFAULT
    pass_size: int = 0
    """Images in every pass, padded with the last image; 0: as many as there are."""
    reduction: Reduction = NO_REDUCTION
    matrices: Mapping[int, Any] = field(default_factory=dict, compare=False, repr=False)
    """The matrices of the reduction's projection, by the width of the features."""
    dtype: str = "float32"
    """Element type of the rows: `float32` or `float16`."""
    pca: PCA | None = None
    """Its scores of the reduced rows replace these."""
    inner_bytes: int = 0
    """Predicted memory of one image's inner activations, bytes."""

    @property
    def cost(self) -> ImageCost:
        """Return what one image takes in a pass."""
        return predict_cost(self.input_spec.shape, self.taps, self.inner_bytes)

    @property
    def shapes_before_pca(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of an image's row before the PCA, by tap; raise if not reducible."""
        return {tap.name: self.reduction.shape(tap.name, tap.output_shape) for tap in self.taps}

    @property
    def row_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of an image's row, per tap; raise if not reducible."""
        shapes = list(self.shapes_before_pca.values())
        if self.pca is None:
            return shapes
        return [(self.pca.record.description.component_count,)] * len(shapes)

    @property
    def row_axes(self) -> list[Axes]:
        """Return what the axes of an image's row are, per tap."""
        if self.pca is not None:
            return [(FEATURES,)] * len(self.taps)
        return [self.reduction.axes(tap.output_axes) for tap in self.taps]

    def run(self, model: RunnableModel, inputs: Sequence[Any]) -> tuple[BatchRun, Overflows]:
        """Return the rows of each tap, and how many of their values overflowed.

        `inputs` are the pieces of a batch, each images x shape.
        """
        count = sum(map(len, inputs))
        padding = [inputs[-1][-1:]] * (self.pass_size - count)
        run = model.run([*inputs, *padding], self.taps, self.options)
        if padding:
            run = replace(run, rows=[rows[:count] for rows in run.rows])
        if self.reduction != NO_REDUCTION:
            run = replace(
                run, rows=[self.reduction.apply(rows, self.matrices) for rows in run.rows]
            )
        if self.pca is not None:
            axes = [self.pca.modules[tap.name] for tap in self.taps]
            pairs = zip(axes, run.rows, strict=True)
            run = replace(run, rows=[one.scores(rows) for one, rows in pairs])
        overflows = np.zeros(count, np.int64)
        if self.dtype == "float16":
            run = replace(run, rows=[_to_float16(rows, overflows) for rows in run.rows])
        return run, overflows


def _to_float16(rows: Any, overflows: Overflows) -> Any:
    """Return the rows as float16, and count the values that became infinite."""
    import torch  # its conversion is 15 times as fast as numpy's

    half = torch.from_numpy(rows).half().numpy()
    lost = np.isinf(half) & np.isfinite(rows)
    overflows += lost.reshape(len(rows), -1).sum(1)
    return half
