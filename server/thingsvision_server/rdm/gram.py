"""Inner products of all pairs of rows, summed in float64 over blocks of values, on any device."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .blocks import Blocks
from .computation import Computation
from .memory import plan_memory
from .metrics import MetricInfo, RowStats
from .products import Products, make_products
from .rows import Rows

if TYPE_CHECKING:
    from torch import Tensor


def gram_matrix(
    rows: Rows, metric: MetricInfo, computation: Computation, host: Tensor | None = None
) -> tuple[Tensor, RowStats]:
    """Return the lower triangle of G = Y @ Y.T (float64, N x N) and the statistics of the rows.

    Y are the rows as the metric centres them. Above the diagonal, G contains products or zeros.
    Rows with a NaN or an infinity are excluded; their `squares` are NaN. If G doesn't fit the
    device's memory, it is on the host, and was computed in bands that each read all values.
    `host`: zeros, N x N, that take the products if they are on the host.
    """
    plan = plan_memory(rows, computation)
    device = computation.device if plan.keeps_matrix else "cpu"
    gram = _zeros(rows.row_count, device) if host is None or device != "cpu" else host
    blocks, products = Blocks(rows.row_count, metric, computation), make_products(computation)
    computation.announce(rows, len(plan.bands))
    for start, stop in plan.bands:
        band = gram[start:stop, :stop]
        on_device = band if plan.keeps_matrix else _empty(band, computation.device)
        tiles = [(rows, columns) for rows, columns in products.tiles(start, stop)]
        for index, raw in enumerate(computation.blocks(rows, is_announced=True)):
            products.load(blocks.prepare(raw, collects=start == 0))
            add = partial(_add, on_device, products, start=start, is_first=index == 0)
            computation.each(add, tiles)
        if not plan.keeps_matrix:
            band.copy_(on_device)
            del add, on_device  # before the next band is allocated
    squares = gram.diagonal().clone()
    return gram, blocks.stats(rows.value_count, squares.to(computation.device)).to(gram.device)


def _add(
    band: Tensor, products: Products, rows: slice, columns: slice, *, start: int, is_first: bool
) -> None:
    tile = band[rows.start - start : rows.stop - start, columns]
    products.add(tile, is_first, rows, columns)


def _empty(band: Tensor, device: str) -> Tensor:
    return band.new_zeros(band.shape, device=device)


def _zeros(row_count: int, device: str) -> Tensor:
    import torch

    if device == "cpu":
        # numpy gets zeroed pages from the kernel and does not touch them before they are written.
        return torch.from_numpy(np.zeros((row_count, row_count)))
    return torch.zeros((row_count, row_count), dtype=torch.float64, device=device)
