"""Inner products of all pairs of rows, summed in float64 over blocks of values, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from .blocks import Blocks
from .computation import Computation
from .metrics import MetricInfo, RowStats
from .rows import Rows, spans

if TYPE_CHECKING:
    from torch import Tensor

TILE_ROWS = 512
"""Maximum rows and columns of a tile of the product on a CPU: 2 MiB, to fit a core's cache."""


def gram_matrix(
    rows: Rows, metric: MetricInfo, computation: Computation
) -> tuple[Tensor, RowStats]:
    """Return the lower triangle of G = Y @ Y.T (float64, N x N) and the statistics of the rows.

    Y are the rows as the metric centres them. Above the diagonal, G contains products or zeros.
    Rows with a NaN or an infinity are excluded; their `squares` are NaN.
    """
    gram = _zeros(rows.row_count, computation.device)
    blocks = Blocks(rows.row_count, metric, computation)
    on_cpu = computation.device == "cpu"
    add = _add_by_numpy if on_cpu else _add_by_torch
    tiles = list((_squares if on_cpu else _bands)(rows.row_count, computation.block_bytes))
    for index, raw in enumerate(computation.blocks(rows)):
        block = blocks.prepare(raw)
        computation.each(partial(add, gram, block, index == 0), tiles)
    return gram, blocks.stats(rows.value_count, gram.diagonal().clone())


def _zeros(row_count: int, device: str) -> Tensor:
    import torch

    if device == "cpu":
        # numpy gets zeroed pages from the kernel and does not touch them before they are written.
        return torch.from_numpy(np.zeros((row_count, row_count)))
    return torch.zeros((row_count, row_count), dtype=torch.float64, device=device)


def _squares(row_count: int, block_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Split a lower triangle into square tiles: rows and columns."""
    length = max(1, min(TILE_ROWS, isqrt(block_bytes // 8)))
    edges = [slice(*span) for span in spans(row_count, length)]
    for index, rows in enumerate(edges):
        for columns in edges[: index + 1]:
            yield rows, columns


def _bands(row_count: int, block_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Split a lower triangle into bands of whole rows."""
    for start, stop in spans(row_count, max(1, block_bytes // (8 * row_count))):
        yield slice(start, stop), slice(0, stop)


def _add_by_numpy(gram: Tensor, block: Tensor, is_first: bool, rows: slice, columns: slice) -> None:
    import torch

    # If both factors are the same array, numpy calls syrk: half the work.
    tile, values = gram[rows, columns], block.numpy()
    with np.errstate(all="ignore"):  # squares may overflow float64: such rows become undefined
        if is_first:
            np.matmul(values[rows], values[columns].T, out=tile.numpy())
        else:
            tile.add_(torch.from_numpy(values[rows] @ values[columns].T))


def _add_by_torch(gram: Tensor, block: Tensor, is_first: bool, rows: slice, columns: slice) -> None:
    gram[rows, columns].addmm_(block[rows], block[columns].T, beta=0 if is_first else 1)
