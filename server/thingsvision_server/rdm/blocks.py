"""Prepares blocks of values for their product, and collects statistics of the rows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .computation import Computation
from .metrics import MetricInfo, RowStats
from .rows import spans

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS_AT_ONCE = 64
"""Values of all rows that are centred together, if the metric subtracts the mean row."""


class Blocks:
    """Makes blocks float64 and centred, in one reused buffer; accumulates the rows' statistics."""

    def __init__(self, row_count: int, metric: MetricInfo, computation: Computation) -> None:
        import torch

        self._metric = metric
        self._computation = computation
        self._block = empty_block(0, 0, computation.device)
        self._is_first = True
        self._sums, self._shift = torch.zeros(
            (2, row_count), dtype=torch.float64, device=computation.device
        )
        self._lowest = torch.full_like(self._sums, torch.inf)
        self._highest = torch.full_like(self._sums, -torch.inf)

    def prepare(self, raw: Tensor, *, collects: bool = True) -> Tensor:
        """Return values N x b as the metric centres them, float64; valid until the next call.

        A row with a NaN or an infinity becomes zeros, as it would make the mean row NaN.
        `collects`: the statistics do not have these values yet.
        """
        if self._block.shape != raw.shape:  # new memory costs more than the conversion
            self._block = empty_block(len(raw), raw.shape[1], self._computation.device)
        by_rows = list(self._computation.strips(len(raw), raw.shape[1]))
        self._computation.each(partial(self._convert, raw), by_rows)
        self._is_first = False
        if self._metric.from_differences:
            self._computation.each(self._centre_columns, spans(raw.shape[1], COLUMNS_AT_ONCE))
        self._computation.each(partial(self._centre_rows, collects), by_rows)
        return self._block

    def stats(self, value_count: int, squares: Tensor) -> RowStats:
        """Return the statistics of the rows; `squares` becomes NaN for rows that are not finite."""
        squares[~(self._lowest.isfinite() & self._highest.isfinite())] = float("nan")
        return RowStats(
            value_count=value_count,
            lowest=self._lowest,
            highest=self._highest,
            shift=self._shift,
            sums=self._sums,
            squares=squares,
        )

    def _convert(self, raw: Tensor, start: int, stop: int) -> None:
        import torch

        values, block = raw[start:stop], self._block[start:stop]
        low, high = values.amin(1), values.amax(1)  # an eighth of the time of aminmax
        for seen, new, choose in (
            (self._lowest, low, torch.minimum),
            (self._highest, high, torch.maximum),
        ):
            choose(seen[start:stop], new.double(), out=seen[start:stop])  # propagates NaN
        block.copy_(values)
        block[~(low.isfinite() & high.isfinite())] = 0
        if self._is_first:
            self._shift[start:stop] = block.mean(1)

    def _centre_columns(self, start: int, stop: int) -> None:
        self._metric.centre(self._block[:, start:stop], self._shift)

    def _centre_rows(self, collects: bool, start: int, stop: int) -> None:
        block = self._block[start:stop]
        if not self._metric.from_differences:
            self._metric.centre(block, self._shift[start:stop])
        if collects:
            self._sums[start:stop] += block.sum(1)


def empty_block(row_count: int, value_count: int, device: str) -> Tensor:
    """Return uninitialised memory, float64."""
    import torch

    if device == "cpu":
        # numpy requests large pages from the kernel; torch doesn't, and takes four times as long.
        return torch.from_numpy(np.empty((row_count, value_count)))
    return torch.empty((row_count, value_count), dtype=torch.float64, device=device)
