"""Computes an RDM of N x P features in N x N float64 plus a few blocks, whatever P is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import InvalidRequestError
from .computation import FLOAT64, RESIDUES, Computation, strips
from .gram import gram_matrix
from .memory import plan_memory
from .metrics import MetricInfo, RowStats, find_metric
from .neighbours import MOST_NEAR, TooManyNearError, find_lengths, recompute_near
from .products import find_arithmetic
from .rows import Rows, spans

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 64 * 1024 * 1024
"""Size of a block of values, and of a tile of the matrix, as float64."""

MIRROR_ROWS = 128


@dataclass(frozen=True)
class RDM:
    """Distances, float64 N x N, exactly symmetric; and the indices of rows without distances.

    The diagonal is exactly 0. Rows and columns of `undefined` are NaN, diagonal included.
    """

    distances: npt.NDArray[np.float64]
    undefined: list[int]
    arithmetic: str = FLOAT64
    """FLOAT64 or RESIDUES: what the inner products were computed with."""


def compute_rdm(
    rows: Rows,
    metric: str,
    *,
    device: str = "cpu",
    block_bytes: int = BLOCK_BYTES,
    on_block: Callable[[int, int], None] | None = None,
    thread_pool: bool = True,
    arithmetic: str = FLOAT64,
    memory_bytes: int | None = None,
) -> RDM:
    """Return the RDM of N x P rows for a metric of METRICS; sums are float64.

    Memory: N x N float64 on `device` (and for the result), plus about four times `block_bytes` or
    512 values of all rows, whichever is more. `device`: `cpu`, or a CUDA device of torch
    (`cuda:0`). `on_block(done_count, total_count)` is called after every block of values and,
    with the same numbers, while the matrix is finished; the total grows when near duplicates
    need another pass. To cancel, raise an exception in it. `thread_pool` as in Computation.

    `arithmetic`: FLOAT64, or RESIDUES for devices with slow float64; distances then are within
    1e-6 (relative) of exact ones. FLOAT64 is used instead on a device without exact products, or
    if so many rows are near duplicates that it is quicker. `memory_bytes`: memory of the device
    that may be used; if it is too small for the matrix, the matrix is in the host's memory.

    Rows are undefined if they contain a NaN or an infinity, have no variance (correlation), or are
    all zero (cosine). The mean of `gaussian` is over the defined rows. Raises InvalidRequestError
    if the metric is unknown or there are no values, ExhaustedError if `memory_bytes` is too little.
    """
    info = find_metric(metric)
    if not rows.row_count or not rows.value_count:
        shape = f"{rows.row_count} x {rows.value_count}"
        raise InvalidRequestError(
            f"features of an RDM must have at least one row and one value, got {shape}"
        )
    computation = Computation(
        device,
        block_bytes,
        on_block,
        thread_pool,
        arithmetic=find_arithmetic(arithmetic, device),
        memory_bytes=memory_bytes,
    )
    on_host = not plan_memory(rows, computation).keeps_matrix
    with computation.on_all_cores(has_host_matrix=on_host):
        try:
            return _compute(rows, info, computation)
        except TooManyNearError:
            computation.arithmetic = FLOAT64
            return _compute(rows, info, computation)


def _compute(rows: Rows, metric: MetricInfo, computation: Computation) -> RDM:
    matrix, stats = gram_matrix(rows, metric, computation)
    _compare(matrix, stats, metric, computation)
    if metric.from_differences:
        recompute_near(matrix, rows, find_lengths(stats, metric), computation)
    elif computation.arithmetic == RESIDUES:
        most = int(MOST_NEAR * len(matrix) ** 2)
        lengths = find_lengths(stats, metric)
        recompute_near(matrix, rows, lengths, computation, most_pairs=most)
    undefined = (~metric.is_defined(stats)).nonzero().flatten()
    matrix.fill_diagonal_(0)
    matrix[undefined] = float("nan")
    matrix[:, undefined] = float("nan")
    _finish(matrix, len(undefined), metric, computation)
    return RDM(matrix.cpu().numpy(), undefined.tolist(), computation.arithmetic)


def _compare(matrix: Tensor, stats: RowStats, metric: MetricInfo, computation: Computation) -> None:
    """Turn the lower triangle of the Gram matrix into (squared) distances."""

    def compare(start: int, stop: int) -> None:
        metric.compare(matrix[start:stop, :stop], stats[start:stop], stats[:stop])

    computation.each(compare, strips(*matrix.shape), matrix=matrix)


def _finish(
    matrix: Tensor, undefined_count: int, metric: MetricInfo, computation: Computation
) -> None:
    """Apply the metric's last step to the lower triangle, and mirror it."""
    mean = 0.0
    if metric.from_differences:
        mean = _mean(matrix, len(matrix) - undefined_count, computation)

    def finish(start: int, stop: int) -> None:
        metric.finish(matrix[start:stop, :stop], mean)

    def mirror(start: int, stop: int) -> None:
        lower = matrix[start:stop, start:stop].tril()
        matrix[start:stop, start:stop] = lower + lower.tril(-1).T
        matrix[:start, start:stop] = matrix[start:stop, :start].T

    computation.each(finish, strips(*matrix.shape), matrix=matrix)
    computation.each(mirror, spans(len(matrix), MIRROR_ROWS), matrix=matrix)


def _mean(matrix: Tensor, defined_count: int, computation: Computation) -> float:
    """Return the mean over all pairs of defined rows, from the lower triangle; 0 if none."""

    def half_sum(start: int, stop: int) -> float:
        square = matrix[start:stop, start:stop].tril(-1)
        return float(matrix[start:stop, :start].nansum() + square.nansum())

    total = 2 * fsum(computation.each(half_sum, strips(*matrix.shape), matrix=matrix))
    return total / max(1, defined_count) ** 2
