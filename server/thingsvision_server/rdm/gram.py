"""Inner products of all pairs of rows, summed in float64 over blocks of values, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .metrics import MetricInfo, RowStats
from .rows import Array, Rows, block_values, spans

if TYPE_CHECKING:
    from torch import Tensor


STRIP_BYTES = 4 * 1024 * 1024
"""Bytes of some rows of the matrix that are worked on at once: near a core's cache."""


@dataclass
class Work:
    """Where and how to compute, and how far it is: `on_block(done, total)` may raise to cancel."""

    device: str
    block_bytes: int
    on_block: Callable[[int, int], None] | None = None
    done_count: int = field(default=0, init=False)
    total_count: int = field(default=0, init=False)

    def tell(self) -> None:
        """Say how far the work is."""
        if self.on_block is not None:
            self.on_block(self.done_count, self.total_count)

    def blocks(self, rows: Rows) -> Iterator[Tensor]:
        """Yield all values as tensors N x b of the rows' own type, on the device."""
        import torch

        width = block_values(rows, self.block_bytes)
        self.total_count += -(-rows.value_count // width)
        for start, stop in spans(rows.value_count, width):
            values = np.require(rows.values(start, stop), requirements="W")  # torch warns else
            yield torch.from_numpy(values).to(self.device)
            self.done_count += 1
            self.tell()

    def strips(self, row_count: int) -> Iterator[tuple[int, int]]:
        """Yield [start, stop) of rows of an N x N matrix, few enough for `STRIP_BYTES`."""
        for strip in spans(row_count, max(1, STRIP_BYTES // (8 * row_count))):
            yield strip
            self.tell()


def gram_matrix(rows: Rows, metric: MetricInfo, work: Work) -> tuple[Tensor, RowStats]:
    """Return the lower triangle of G = Y @ Y.T (float64, N x N) and what is known of the rows.

    Y are the rows as the metric centres them. Above its diagonal G is undefined. A row with a
    NaN or an infinity takes no part; its `squares` are NaN.
    """
    import torch

    product = _Product(rows.row_count, work)
    shift, buffer = None, torch.empty(0)
    sums = product.gram.new_zeros(rows.row_count)
    lowest, highest = torch.full_like(sums, torch.inf), torch.full_like(sums, -torch.inf)
    for raw in work.blocks(rows):
        low, high = raw.aminmax(dim=1)
        torch.minimum(lowest, low.double(), out=lowest)  # both carry a NaN on
        torch.maximum(highest, high.double(), out=highest)
        if buffer.shape != raw.shape:  # fresh memory costs more than the conversion
            buffer = torch.empty_like(raw, dtype=torch.float64)
        block = buffer.copy_(raw)
        block[~(low.isfinite() & high.isfinite())] = 0  # or it would spoil the mean row
        shift = block.mean(1) if shift is None else shift
        metric.centre(block, shift)
        sums += block.sum(1)
        product.add(block)
    squares = product.gram.diagonal().clone()
    squares[~(lowest.isfinite() & highest.isfinite())] = torch.nan
    return product.gram, RowStats(rows.value_count, lowest, highest, sums, squares)


class _Product:
    """The sum of block @ block.T: `gram`, float64 N x N, up to its diagonal."""

    def __init__(self, row_count: int, work: Work) -> None:
        import torch

        shape = (row_count, row_count)
        self._tile_rows = max(1, work.block_bytes // (8 * row_count))
        self._scratch: Array | None = None
        if work.device == "cpu":
            # numpy's zeros are the kernel's own: not touched before they are written.
            self.gram = torch.from_numpy(np.zeros(shape))
            self._scratch = np.empty(min(self._tile_rows, row_count) * row_count)
        else:
            self.gram = torch.zeros(shape, dtype=torch.float64, device=work.device)

    def add(self, block: Tensor) -> None:
        """Add a block's product, tile by tile."""
        for start, stop in spans(len(block), self._tile_rows):
            if self._scratch is None:
                self.gram[start:stop, :stop].addmm_(block[start:stop], block[:stop].T)
            else:
                # numpy sees that both factors are one array and calls syrk: half the work.
                self._add_by_numpy(block, slice(start, stop), slice(start, stop), self._scratch)
                self._add_by_numpy(block, slice(start, stop), slice(0, start), self._scratch)

    def _add_by_numpy(self, block: Tensor, rows: slice, columns: slice, scratch: Array) -> None:
        out, values = self.gram.numpy()[rows, columns], block.numpy()
        product = scratch[: out.size].reshape(out.shape)
        out += np.matmul(values[rows], values[columns].T, out=product)
