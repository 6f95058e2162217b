"""Exact principal components of N x P features, in N x N or P x P memory, the smaller one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from .compare import BLOCK_BYTES
from .computation import FLOAT64, RESIDUE_VALUES, RESIDUES, Computation
from .eigenvectors import SquareMatrix
from .gram import gram_matrix
from .memory import plan_memory
from .metrics import find_metric
from .products import find_arithmetic, make_products
from .rows import Array, Rows, spans

if TYPE_CHECKING:
    from torch import Tensor

MIN_VARIANCE_RATIO = 1e-10
"""Directions with less than this share of the largest variance are dropped: axes computed from
sums of squares in float64 would not be orthogonal there, and features are float32."""

MOST_ROWS = 4096
"""Rows of one product: on two cores it takes two seconds, whatever the other sizes are."""

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
    arithmetic: str = FLOAT64
    """FLOAT64 or RESIDUES: what the inner products were computed with."""


def compute_pca(
    rows: RowBlocks,
    component_count: int,
    *,
    device: str = "cpu",
    block_bytes: int = BLOCK_BYTES,
    on_block: Callable[[int, int], None] | None = None,
    thread_pool: bool = True,
    arithmetic: str = FLOAT64,
    memory_bytes: int | None = None,
) -> Components:
    """Return the first components of N x P finite rows; sums are float64.

    Returns fewer than `component_count` if the rows vary in fewer directions
    (MIN_VARIANCE_RATIO). Memory in addition to the result and a few blocks: (m + k) x m float64,
    where m is the smaller of N and P, and k the number of components. `device`: `cpu`, or a CUDA
    device of torch. `on_block`, `arithmetic` and `memory_bytes` are as in `compute_rdm`; the
    eigendecomposition in the middle is a single step on a CPU: of a large matrix in a process of
    its own, which ends if `on_block` raises. If P x P
    products don't fit the memory, all of the fit is computed on the CPU.
    """
    computation = Computation(
        device,
        block_bytes,
        on_block,
        thread_pool,
        arithmetic=find_arithmetic(arithmetic, device),
        memory_bytes=memory_bytes,
    )
    find = _from_rows if rows.row_count <= rows.value_count else _from_columns
    if find is _from_columns and not _fits(rows.value_count, memory_bytes):
        computation.device, computation.arithmetic = "cpu", FLOAT64
    squares, total, mean, axes = find(rows, component_count, computation)
    freedom = max(1, rows.row_count - 1)
    variances, total_variance = squares / freedom, total / freedom
    return Components(
        mean, _orient(axes), variances, total_variance, arithmetic=computation.arithmetic
    )


def _from_rows(
    rows: RowBlocks, count: int, computation: Computation
) -> tuple[Float64, float, Float64, npt.NDArray[np.float32]]:
    """Find axes through the N x N inner products of the rows, with the mean row subtracted."""
    import torch

    on_host = not plan_memory(rows, computation).keeps_matrix
    square = SquareMatrix(rows.row_count)
    host = torch.from_numpy(square.values)
    with computation.on_all_cores(has_host_matrix=on_host):
        gram, _ = gram_matrix(rows, find_metric("euclidean"), computation, host)
    total = float(gram.diagonal().sum())
    squares, vectors = _largest(gram, square, count, computation)
    weights = torch.from_numpy(vectors / np.sqrt(squares)).to(computation.device).T
    mean = np.empty(rows.value_count)
    axes = np.empty((len(squares), rows.value_count), np.float32)
    start = 0
    for raw in computation.blocks(rows):
        block = raw.double()
        part = slice(start, start + block.shape[1])
        middle = block.mean(0)
        mean[part] = middle.cpu().numpy()
        block.sub_(middle)
        for first, last in spans(len(weights), MOST_ROWS):
            axes[first:last, part] = (weights[first:last] @ block).cpu().numpy()
            computation.report()
        start = part.stop
    return squares, total, mean, axes


def _from_columns(
    rows: RowBlocks, count: int, computation: Computation
) -> tuple[Float64, float, Float64, npt.NDArray[np.float32]]:
    """Find axes through the P x P products of the values, with their means subtracted."""
    import torch

    width = rows.value_count
    at_once = max(1, computation.block_bytes // (8 * width))
    if computation.arithmetic == RESIDUES:
        at_once = min(at_once, RESIDUE_VALUES)
    pieces = list(spans(rows.row_count, at_once))
    computation.total_count += 2 * len(pieces)
    sums = torch.zeros(width, dtype=torch.float64, device=computation.device)
    for piece in pieces:
        sums += _block(rows, piece, computation).sum(0)
    mean = sums / rows.row_count
    square = SquareMatrix(width)
    matrix = (
        torch.from_numpy(square.values)
        if computation.device == "cpu"
        else torch.zeros((width, width), dtype=torch.float64, device=computation.device)
    )
    on_cpu = computation.device == "cpu" and computation.arithmetic == FLOAT64
    add = _add_whole if on_cpu else _add_tiles
    for piece in pieces:
        add(matrix, _block(rows, piece, computation).sub_(mean), computation)
    total = float(matrix.diagonal().sum())
    squares, vectors = _largest(matrix, square, count, computation)
    return squares, total, mean.cpu().numpy(), vectors.T.astype(np.float32)


def _fits(width: int, memory_bytes: int | None) -> bool:
    """Return whether P x P products fit a quarter of the memory: blocks may take five eighths."""
    return memory_bytes is None or 8 * width**2 <= memory_bytes // 4


def _add_whole(matrix: Tensor, block: Tensor, computation: Computation) -> None:
    """Add the products of the columns of a block, above the diagonal too, which is not used.

    The lower triangle alone would be a quarter quicker with other last bits, beside an
    eigendecomposition that takes longer.
    """
    for start, stop in spans(len(matrix), MOST_ROWS):
        matrix[start:stop].addmm_(block.T[start:stop], block)
        computation.report()


def _add_tiles(matrix: Tensor, block: Tensor, computation: Computation) -> None:
    """Add the products of the columns of a block to the lower triangle."""
    products = make_products(computation)
    products.load(block.T.contiguous())

    def add(rows: slice, columns: slice) -> None:
        products.add(matrix[rows, columns], False, rows, columns)

    computation.each(add, products.tiles(0, len(matrix)))


def _block(rows: RowBlocks, piece: tuple[int, int], computation: Computation) -> Tensor:
    values = rows.rows(*piece)
    computation.done_count += 1
    computation.report()
    return computation.tensor(values).double()


def _largest(
    products: Tensor, square: SquareMatrix, count: int, computation: Computation
) -> tuple[Float64, Float64]:
    """Return the largest eigenvalues, descending, and eigenvectors [m x k] of a lower triangle.

    The products are in the square, or are copied there.
    """
    if products.data_ptr() != square.values.ctypes.data:
        np.copyto(square.values, products.cpu().numpy())
    values, vectors = square.largest(count, computation.report)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = (values > 0) & (values >= MIN_VARIANCE_RATIO * values[0])
    return values[kept], vectors[:, kept]


def _orient(axes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Flip axes, in place, so that the largest value by magnitude of each is positive."""
    for axis in axes:
        if axis[np.abs(axis).argmax()] < 0:
            np.negative(axis, out=axis)
    return axes
