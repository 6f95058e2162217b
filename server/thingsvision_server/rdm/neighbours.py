"""Recomputes distances of nearly equal rows from their differences.

From inner products, d^2 = g_ii + g_jj - 2 g_ij has an error of about 1e-16 (g_ii + g_jj), which for
near duplicates is as large as d^2 itself. If d^2 is below `NEAR` times that sum, it is recomputed;
above, the relative error of d stays below 1e-9.

With the arithmetic of `residues`, inner products are off by at most E sqrt(g_ii g_jj), E = 4e-13,
so d^2 by at most 2 E (g_ii + g_jj): above `NEAR`, the relative error of d^2 stays below 8e-7. There
1 - r is recomputed too, as half of the squared distance of the rows with their means subtracted and
a length of 1. In r = (g_ij - s_i s_j / P) / sqrt(v_i v_j), where v_i = g_ii - s_i^2 / P, the error
is at most E (g_ii / v_i + g_jj / v_j): the same, if l_i = g_ii / v_i / 2 takes the place of g_ii.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .computation import Computation, strips
from .metrics import MetricInfo, RowStats
from .rows import Rows, spans

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 1e-6
"""Rows are near if their squared distance is below this share of their squared lengths."""

PAIRS_PER_PASS = 1 << 20
"""Pairs compared in one pass over all values: about this many, at most twice as many."""

MOST_NEAR = 1 / 256
"""The share of near pairs from which on comparing them costs more than another Gram matrix."""


@dataclass(frozen=True)
class Lengths:
    """What the distances of N rows came from: NEAR times the sum of two `squares` is near.

    `unit`: subtract the first from rows [N] and divide them by the second before they are
    compared, and halve the result. None: compare the rows themselves.
    """

    squares: Tensor
    unit: tuple[Tensor, Tensor] | None = None


def find_lengths(stats: RowStats, metric: MetricInfo) -> Lengths:
    """Return the lengths of rows for a metric; those of undefined rows are NaN."""
    if metric.unit is None:
        return Lengths(stats.squares)
    shift, length = metric.unit(stats)
    squares = (stats.squares / length.square()).mul_(0.5)
    return Lengths(squares.masked_fill_(~metric.is_defined(stats), float("nan")), (shift, length))


class TooManyNearError(Exception):
    """More than MOST_NEAR of all pairs are near."""


def recompute_near(
    squared: Tensor,
    rows: Rows,
    lengths: Lengths,
    computation: Computation,
    *,
    most_pairs: int | None = None,
) -> None:
    """Replace squared distances of near rows, in place, in the lower triangle of N x N.

    Rows identical to an earlier row copy its distances: a film of 5,000 black frames has 12 million
    near pairs but needs only 5,000 comparisons. Infinities remain on the diagonal and in rows that
    are not finite. Raises TooManyNearError when more than `most_pairs` pairs are near.
    """
    import torch

    later, partners = _closest_partners(squared, lengths.squares, computation)
    if not len(later):
        return
    found = _from_differences(rows, lengths, (later, partners), computation)
    duplicates = found == 0
    others = torch.ones(len(squared), dtype=torch.bool, device=squared.device)
    others[later[duplicates]] = False
    pair_count = 0
    for first, second in _near_pairs(squared, lengths.squares, later[~duplicates], others):
        pair_count += len(first)
        if most_pairs is not None and pair_count > most_pairs:
            raise TooManyNearError
        squared[first, second] = _from_differences(rows, lengths, (first, second), computation)
    _copy_to_duplicates(squared, later[duplicates].tolist(), partners[duplicates].tolist())


def _suspects(squared: Tensor, squares: Tensor, computation: Computation) -> Tensor:
    """Return the indices of all rows that may be near an earlier row.

    Reads every distance once: a row is cleared if its smallest distance would not be near even if
    the other row were the longest of all. Values above the diagonal may belong to a later row or
    be the sum of two squared lengths (no product was made): they can only add suspects.
    """
    import torch

    lost = ~squares.isfinite()
    squared.fill_diagonal_(float("inf"))
    squared[lost] = float("inf")  # NaN would hide near rows
    squared[:, lost] = float("inf")
    longest = squares.masked_fill(lost, 0).max()
    pieces = strips(*squared.shape)
    least = torch.cat(
        computation.each(
            lambda start, stop: squared[start:stop, :stop].amin(1), pieces, matrix=squared
        )
    )
    return (least < NEAR * (squares + longest)).nonzero().flatten()


def _near(squared: Tensor, squares: Tensor, later: Tensor) -> Tensor:
    """Return which rows at ascending indices `later` are near which earlier rows, n x columns."""
    import torch

    width = int(later[-1]) + 1
    lengths = squares[later, None] + squares[:width]
    earlier = torch.arange(width, device=later.device) < later[:, None]
    return (squared[later, :width] < lengths.mul_(NEAR)) & earlier


def _closest_partners(
    squared: Tensor, squares: Tensor, computation: Computation
) -> tuple[Tensor, Tensor]:
    """Return the rows near an earlier row, ascending, and the closest earlier row of each.

    This finds duplicates, whose distance is only rounding error, less than most other distances.
    """
    import torch

    partners = squared.new_full((len(squared),), -1).long()
    suspects = _suspects(squared, squares, computation)
    for start, stop in strips(len(suspects), len(squared)):
        some = suspects[start:stop]
        near = _near(squared, squares, some)
        least, index = squared[some, : near.shape[1]].masked_fill_(~near, torch.inf).min(dim=1)
        partners[some] = index.where(least.isfinite(), -1)
        computation.report()
    later = (partners >= 0).nonzero().flatten()
    return later, partners[later]


def _near_pairs(
    squared: Tensor, squares: Tensor, later: Tensor, others: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield near pairs (later, earlier among `others`), enough at a time to be worth a pass."""
    import torch

    pending = [later.new_empty((0, 2))]
    for start, stop in spans(len(later), max(1, PAIRS_PER_PASS // len(squared))):
        some = later[start:stop]
        near = _near(squared, squares, some)
        pairs = (near & others[: near.shape[1]]).nonzero()
        pairs[:, 0] = some[pairs[:, 0]]
        pending.append(pairs)
        if stop == len(later) or sum(map(len, pending)) >= PAIRS_PER_PASS:
            together = torch.cat(pending)
            pending.clear()
            if len(together):
                yield together[:, 0], together[:, 1]


def _from_differences(
    rows: Rows, lengths: Lengths, pairs: tuple[Tensor, Tensor], computation: Computation
) -> Tensor:
    """Return |x - y|^2 for pairs of rows, in one pass over the values of those rows.

    Half of it, of rows with length 1, if `lengths` say how to make them so.
    """
    import torch

    needed, indices = torch.unique(torch.stack(pairs), return_inverse=True)
    places, count = indices.to(computation.device), len(pairs[0])
    squared = torch.zeros(count, dtype=torch.float64, device=computation.device)
    scale = _scale(lengths, needed, computation.device)
    for block in computation.blocks(rows, needed.cpu().numpy()):
        at_once = max(1, computation.block_bytes // (16 * block.shape[1]))
        for start, stop in spans(count, at_once):
            difference = scale(block, places[0, start:stop])
            difference -= scale(block, places[1, start:stop])
            squared[start:stop] += difference.square_().sum(1)
    return (squared if lengths.unit is None else squared.div_(2)).to(pairs[0].device)


def _scale(lengths: Lengths, needed: Tensor, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what makes float64 rows of a block of the `needed` rows, as they are compared."""
    if lengths.unit is None:
        return lambda block, places: block[places].double()
    shift, length = (part[needed, None].to(device) for part in lengths.unit)
    return lambda block, places: block[places].double().sub_(shift[places]).div_(length[places])


def _copy_to_duplicates(squared: Tensor, duplicates: list[int], originals: list[int]) -> None:
    """Copy the distances of an earlier row to rows identical to it, in the lower triangle."""
    for duplicate, original in zip(duplicates, originals, strict=True):
        squared[duplicate, :original] = squared[original, :original]
        squared[duplicate, original] = 0
        squared[duplicate, original + 1 : duplicate] = squared[original + 1 : duplicate, original]
        squared[duplicate + 1 :, duplicate] = squared[duplicate + 1 :, original]
