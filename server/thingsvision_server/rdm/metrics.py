"""How dissimilar two rows are, metric by metric; knows nothing of blocks, files or devices.

Every metric is a function of the Gram matrix G of the rows (all their inner products): a block
of values is centred in a way that the metric does not see, added to G, and G becomes distances
tile by tile. Formulas: Muttenthaler & Hebart 2021, THINGSvision, section on RSA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError, choices

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RowStats:
    """What is known of n rows; float64 tensors of shape [n].

    `sums` and `squares` are of the centred values (sum, and sum of squares), `lowest` and
    `highest` of the values as they came.
    """

    value_count: int
    lowest: Tensor
    highest: Tensor
    sums: Tensor
    squares: Tensor

    def __getitem__(self, span: slice) -> RowStats:
        parts = (self.lowest, self.highest, self.sums, self.squares)
        return RowStats(self.value_count, *(part[span] for part in parts))

    @property
    def variances(self) -> Tensor:
        """Sums of squares about the rows' own means."""
        return self.squares - self.sums.square() / self.value_count


@dataclass(frozen=True)
class MetricInfo:
    """One metric.

    `centre(block, shift)` changes a block N x b of values in place; `shift` [N] has the rows'
    means over the first block. `compare(tile, rows, columns)` changes a tile of the Gram matrix
    in place, `finish(tile, mean)` what came of it, where `mean` is over all N x N.
    `is_defined(rows)` says which rows have a distance. `from_differences`: `compare` gives
    squared distances, which for close rows must be computed again from their differences.
    """

    name: str
    formula: str
    centre: Callable[[Tensor, Tensor], None]
    compare: Callable[[Tensor, RowStats, RowStats], None]
    finish: Callable[[Tensor, float], None]
    is_defined: Callable[[RowStats], Tensor]
    from_differences: bool = False


def _keep_block(block: Tensor, shift: Tensor) -> None:
    """Do not centre: the cosine sees the origin."""


def _centre_rows(block: Tensor, shift: Tensor) -> None:
    """Take the same number from all values of a row, about its mean.

    The means over all values are not known yet; `_pearson` takes out what is left of them. The
    rest is small: if a first block of n of P values is off the row's mean by d, the row's
    variance is at least d^2 n / P, so at most a factor of P/n of the precision is lost.
    """
    block.sub_(shift[:, None])


def _centre_values(block: Tensor, shift: Tensor) -> None:
    """Take the mean row from all rows: distances stay, cancellation in G goes.

    Through the first row, so that identical rows become exactly zero.
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
    """Return the rows by name; a name that comes twice is a ValueError."""
    metrics = {row.name: row for row in rows}
    if len(metrics) < len(rows):
        raise ValueError(f"two metrics have the same name: {[row.name for row in rows]}")
    return MappingProxyType(metrics)


METRICS = table(
    MetricInfo("correlation", "1 - Pearson r", _centre_rows, _pearson, _keep_tile, _varies),
    MetricInfo("cosine", "1 - cosine of the angle", _keep_block, _cosine, _keep_tile, _is_not_zero),
    MetricInfo("euclidean", "|x - y|", _centre_values, _squared_distance, _root, _is_finite, True),
    MetricInfo(
        "gaussian",
        "1 - exp(-D / mean(D)), D = |x - y|^2, mean over all N x N",
        _centre_values,
        _squared_distance,
        _gaussian,
        _is_finite,
        True,
    ),
)


def find_metric(name: str) -> MetricInfo:
    """Return a row of METRICS; a name that is not there raises InvalidRequestError."""
    if name not in METRICS:
        hint = choices(name, METRICS)
        raise InvalidRequestError(f"no metric {name!r}. {hint}", field="metric", subject=name)
    return METRICS[name]
