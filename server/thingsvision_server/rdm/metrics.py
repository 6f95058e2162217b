"""The metrics of RDMs: how dissimilar two rows are.

Every metric is a function of the Gram matrix G of the rows (all their inner products): a block
of values is centred in a way that does not change the metric, added to G, and G becomes distances
tile by tile. Formulas: Muttenthaler & Hebart 2021, THINGSvision, section on RSA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError, choices

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class RowStats:
    """Statistics of n rows; float64 tensors of shape [n].

    `sums` and `squares` (sum, and sum of squares) are of the centred values, `lowest` and
    `highest` of the original values; `shift` are the rows' means over the first block.
    """

    value_count: int
    lowest: Tensor
    highest: Tensor
    shift: Tensor
    sums: Tensor
    squares: Tensor

    def __getitem__(self, span: slice) -> RowStats:
        return self._each(lambda part: part[span])

    def to(self, device: torch.device) -> RowStats:
        """Return the statistics on a device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> RowStats:
        parts = (self.lowest, self.highest, self.shift, self.sums, self.squares)
        return RowStats(self.value_count, *map(change, parts))

    @property
    def variances(self) -> Tensor:
        """Sums of squared deviations from the rows' own means."""
        return self.squares - self.sums.square() / self.value_count


@dataclass(frozen=True)
class MetricInfo:
    """One metric.

    `centre(block, shift)` changes a block N x b of values in place; `shift` [N] has the rows'
    means over the first block. `compare(tile, rows, columns)` changes a tile of the Gram matrix
    in place, and `finish(tile, mean)` its result, where `mean` is over all N x N.
    `is_defined(rows)` says which rows have a distance. `from_differences`: `compare` returns
    squared distances, which for near rows must be recomputed from their differences. Other
    distances are half of the squared distance of rows with length 1: `unit(rows)` returns what to
    subtract from rows, and what to divide them by.
    """

    name: str
    formula: str
    centre: Callable[[Tensor, Tensor], None]
    compare: Callable[[Tensor, RowStats, RowStats], None]
    finish: Callable[[Tensor, float], None]
    is_defined: Callable[[RowStats], Tensor]
    from_differences: bool = False
    unit: Callable[[RowStats], tuple[Tensor, Tensor]] | None = None


def _keep_block(block: Tensor, shift: Tensor) -> None:
    """Do not centre: the cosine depends on the origin."""


def _centre_rows(block: Tensor, shift: Tensor) -> None:
    """Subtract the same number, about its mean, from all values of a row.

    The means over all values are not known yet; `_pearson` subtracts the remainder, which is
    small: if a first block of n of P values is off the row's mean by d, the row's
    variance is at least d^2 n / P, so at most a factor of P/n of the precision is lost.
    """
    block.sub_(shift[:, None])


def _centre_values(block: Tensor, shift: Tensor) -> None:
    """Subtract the mean row from all rows: distances don't change, cancellation in G disappears.

    Subtract the first row before, so that identical rows become exactly zero.
    """
    block.sub_(block[0].clone())
    block.sub_(block.mean(0))


def _cosine(tile: Tensor, rows: RowStats, columns: RowStats) -> None:
    _one_minus_similarity(tile, rows.squares, columns.squares)


def _pearson(tile: Tensor, rows: RowStats, columns: RowStats) -> None:
    tile.addr_(rows.sums, columns.sums, alpha=-1 / rows.value_count)
    _one_minus_similarity(tile, rows.variances, columns.variances)


def _one_minus_similarity(tile: Tensor, rows: Tensor, columns: Tensor) -> None:
    tile.div_(rows.sqrt()[:, None]).div_(columns.sqrt()).clamp_(-1, 1).neg_().add_(1)


def _pearson_unit(rows: RowStats) -> tuple[Tensor, Tensor]:
    return rows.shift + rows.sums / rows.value_count, rows.variances.sqrt()


def _cosine_unit(rows: RowStats) -> tuple[Tensor, Tensor]:
    return rows.shift.new_zeros(len(rows.shift)), rows.squares.sqrt()


def _squared_distance(tile: Tensor, rows: RowStats, columns: RowStats) -> None:
    tile.mul_(-2).add_(rows.squares[:, None]).add_(columns.squares).clamp_(min=0)


def _keep_tile(tile: Tensor, mean: float) -> None:
    """Leave the tile as it is."""


def _root(tile: Tensor, mean: float) -> None:
    tile.sqrt_()


def _gaussian(tile: Tensor, mean: float) -> None:
    """1 - exp(-D / mean(D)); 0 throughout where all rows are identical."""
    if mean > 0:
        tile.div_(-mean).expm1_().neg_()


def _varies(rows: RowStats) -> Tensor:
    return (rows.lowest < rows.highest) & (rows.variances > 0) & rows.squares.isfinite()


def _is_not_zero(rows: RowStats) -> Tensor:
    return (rows.squares > 0) & rows.squares.isfinite()


def _is_finite(rows: RowStats) -> Tensor:
    return rows.squares.isfinite()


def table(*rows: MetricInfo) -> Mapping[str, MetricInfo]:
    """Return the rows by name; raise ValueError if two have the same name."""
    metrics = {row.name: row for row in rows}
    if len(metrics) < len(rows):
        raise ValueError(f"two metrics have the same name: {[row.name for row in rows]}")
    return MappingProxyType(metrics)


METRICS = table(
    MetricInfo(
        name="correlation",
        formula="1 - Pearson r",
        centre=_centre_rows,
        compare=_pearson,
        finish=_keep_tile,
        is_defined=_varies,
        unit=_pearson_unit,
    ),
    MetricInfo(
        name="cosine",
        formula="1 - cosine of the angle",
        centre=_keep_block,
        compare=_cosine,
        finish=_keep_tile,
        is_defined=_is_not_zero,
        unit=_cosine_unit,
    ),
    MetricInfo(
        name="euclidean",
        formula="|x - y|",
        centre=_centre_values,
        compare=_squared_distance,
        finish=_root,
        is_defined=_is_finite,
        from_differences=True,
    ),
    MetricInfo(
        name="gaussian",
        formula="1 - exp(-D / mean(D)), D = |x - y|^2, mean over all N x N",
        centre=_centre_values,
        compare=_squared_distance,
        finish=_gaussian,
        is_defined=_is_finite,
        from_differences=True,
    ),
)


def find_metric(name: str) -> MetricInfo:
    """Return the row of METRICS with this name; raise InvalidRequestError if there is none."""
    if name not in METRICS:
        hint = choices(name, METRICS)
        raise InvalidRequestError(f"unknown metric {name!r}. {hint}", field="metric", subject=name)
    return METRICS[name]
