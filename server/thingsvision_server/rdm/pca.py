"""Exact principal components of N x P features, in N x N or P x P memory, the smaller one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from .compare import BLOCK_BYTES
from .computation import Computation
from .gram import gram_matrix
from .metrics import find_metric
from .rows import Array, Rows, spans

if TYPE_CHECKING:
    from torch import Tensor

MIN_VARIANCE_RATIO = 1e-10
"""Directions with less than this share of the largest variance are dropped: axes computed from
sums of squares in float64 would not be orthogonal there, and features are float32."""

Float64 = npt.NDArray[np.float64]


class RowBlocks(Rows, Protocol):
    """Rows that can also be read whole, some at a time."""

    def rows(self, start: int, stop: int) -> Array:
        """Return rows [start, stop), (stop - start) x P."""


@dataclass(frozen=True)
class Components:
    """The mean row [P], float64; principal axes k x P, float32; their variances [k], float64.

    Variances are divided by N - 1, in descending order; `total_variance` is the sum over all P
    values. The largest value of each axis by magnitude is positive.
    """

    mean: Float64
    axes: npt.NDArray[np.float32]
    variances: Float64
    total_variance: float


def compute_pca(
    rows: RowBlocks,
    component_count: int,
    *,
    device: str = "cpu",
    block_bytes: int = BLOCK_BYTES,
    on_block: Callable[[int, int], None] | None = None,
    thread_pool: bool = True,
) -> Components:
    """Return the first components of N x P finite rows; sums are float64.

    Returns fewer than `component_count` if the rows vary in fewer directions
    (MIN_VARIANCE_RATIO). Memory in addition to the result and a few blocks: (m + k) x m float64,
    where m is the smaller of N and P, and k the number of components. `device`: `cpu`, or a CUDA
    device of torch. `on_block` is as in `compute_rdm`; the eigendecomposition in the middle is a
    single step that can't be cancelled.
    """
    computation = Computation(device, block_bytes, on_block, thread_pool)
    find = _from_rows if rows.row_count <= rows.value_count else _from_columns
    squares, total, mean, axes = find(rows, component_count, computation)
    freedom = max(1, rows.row_count - 1)
    return Components(mean, _orient(axes), squares / freedom, total / freedom)


def _from_rows(
    rows: RowBlocks, count: int, computation: Computation
) -> tuple[Float64, float, Float64, npt.NDArray[np.float32]]:
    """Find axes through the N x N inner products of the rows, with the mean row subtracted."""
    import torch

    with computation.on_all_cores():
        gram, _ = gram_matrix(rows, find_metric("euclidean"), computation)
    total = float(gram.diagonal().sum())
    squares, vectors = _largest(gram, count)
    weights = torch.from_numpy(vectors / np.sqrt(squares)).to(computation.device).T
    mean = np.empty(rows.value_count)
    axes = np.empty((len(squares), rows.value_count), np.float32)
    start = 0
    for raw in computation.blocks(rows):
        block = raw.double()
        part = slice(start, start + block.shape[1])
        middle = block.mean(0)
        mean[part] = middle.cpu().numpy()
        axes[:, part] = (weights @ block.sub_(middle)).cpu().numpy()
        start = part.stop
    return squares, total, mean, axes


def _from_columns(
    rows: RowBlocks, count: int, computation: Computation
) -> tuple[Float64, float, Float64, npt.NDArray[np.float32]]:
    """Find axes through the P x P products of the values, with their means subtracted."""
    import torch

    width = rows.value_count
    pieces = list(spans(rows.row_count, max(1, computation.block_bytes // (8 * width))))
    computation.total_count += 2 * len(pieces)
    sums = torch.zeros(width, dtype=torch.float64, device=computation.device)
    for piece in pieces:
        sums += _block(rows, piece, computation).sum(0)
    mean = sums / rows.row_count
    products = torch.zeros((width, width), dtype=torch.float64, device=computation.device)
    for piece in pieces:
        block = _block(rows, piece, computation).sub_(mean)
        products.addmm_(block.T, block)
    total = float(products.diagonal().sum())
    squares, vectors = _largest(products, count)
    return squares, total, mean.cpu().numpy(), vectors.T.astype(np.float32)


def _block(rows: RowBlocks, piece: tuple[int, int], computation: Computation) -> Tensor:
    values = rows.rows(*piece)
    computation.done_count += 1
    computation.report()
    return computation.tensor(values).double()


def _largest(products: Tensor, count: int) -> tuple[Float64, Float64]:
    """Return the largest eigenvalues, descending, and eigenvectors [m x k] of a lower triangle."""
    from scipy.linalg import eigh

    size = len(products)
    # LAPACK works in place on column-major arrays: pass the transpose and its upper triangle.
    columns: Any = products.cpu().numpy().T
    values, vectors = eigh(
        columns,
        lower=False,
        subset_by_index=(max(0, size - count), size - 1),
        overwrite_a=True,
        check_finite=False,
    )
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = (values > 0) & (values >= MIN_VARIANCE_RATIO * values[0])
    return values[kept], vectors[:, kept]


def _orient(axes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Flip axes, in place, so that the largest value by magnitude of each is positive."""
    for axis in axes:
        if axis[np.abs(axis).argmax()] < 0:
            np.negative(axis, out=axis)
    return axes
