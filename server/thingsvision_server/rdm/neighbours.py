"""Recomputes squared distances of nearly equal rows from their differences.

From inner products, d^2 = g_ii + g_jj - 2 g_ij has an error of about 1e-16 (g_ii + g_jj), which for
near duplicates is as large as d^2 itself. If d^2 is below `NEAR` times that sum, it is recomputed;
above, the relative error of d stays below 1e-9.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .computation import Computation, strips
from .metrics import RowStats
from .rows import Rows, spans

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 1e-6
"""Rows are near if their squared distance is below this share of their squared lengths."""

PAIRS_PER_PASS = 1 << 20
"""Pairs compared in one pass over all values: about this many, at most twice as many."""


def recompute_near(squared: Tensor, rows: Rows, stats: RowStats, computation: Computation) -> None:
    """Replace squared distances of near rows, in place, in the lower triangle of N x N.

    Rows identical to an earlier row copy its distances: a film of 5,000 black frames has 12 million
    near pairs but needs only 5,000 comparisons. Infinities remain on the diagonal and in rows that
    are not finite.
    """
    import torch

    later, partners = _closest_partners(squared, stats, computation)
    if not len(later):
        return
    found = _from_differences(rows, later, partners, computation)
    duplicates = found == 0
    others = torch.ones(len(squared), dtype=torch.bool, device=squared.device)
    others[later[duplicates]] = False
    for first, second in _near_pairs(squared, stats, later[~duplicates], others):
        squared[first, second] = _from_differences(rows, first, second, computation)
    _copy_to_duplicates(squared, later[duplicates].tolist(), partners[duplicates].tolist())


def _suspects(squared: Tensor, stats: RowStats, computation: Computation) -> Tensor:
    """Return the indices of all rows that may be near an earlier row.

    Reads every distance once: a row is cleared if its smallest distance would not be near even if
    the other row were the longest of all. Values above the diagonal may belong to a later row or
    be the sum of two squared lengths (no product was made): they can only add suspects.
    """
    import torch

    lost = ~stats.squares.isfinite()
    squared.fill_diagonal_(float("inf"))
    squared[lost] = float("inf")  # NaN would hide near rows
    squared[:, lost] = float("inf")
    longest = stats.squares.masked_fill(lost, 0).max()
    pieces = strips(*squared.shape)
    least = torch.cat(
        computation.each(lambda start, stop: squared[start:stop, :stop].amin(1), pieces)
    )
    return (least < NEAR * (stats.squares + longest)).nonzero().flatten()


def _near(squared: Tensor, stats: RowStats, later: Tensor) -> Tensor:
    """Return which rows at ascending indices `later` are near which earlier rows, n x columns."""
    import torch

    width = int(later[-1]) + 1
    lengths = stats.squares[later, None] + stats.squares[:width]
    earlier = torch.arange(width, device=later.device) < later[:, None]
    return (squared[later, :width] < lengths.mul_(NEAR)) & earlier


def _closest_partners(
    squared: Tensor, stats: RowStats, computation: Computation
) -> tuple[Tensor, Tensor]:
    """Return the rows near an earlier row, ascending, and the closest earlier row of each.

    This finds duplicates, whose distance is only rounding error, less than most other distances.
    """
    import torch

    partners = squared.new_full((len(squared),), -1).long()
    suspects = _suspects(squared, stats, computation)
    for start, stop in strips(len(suspects), len(squared)):
        some = suspects[start:stop]
        near = _near(squared, stats, some)
        least, index = squared[some, : near.shape[1]].masked_fill_(~near, torch.inf).min(dim=1)
        partners[some] = index.where(least.isfinite(), -1)
        computation.report()
    later = (partners >= 0).nonzero().flatten()
    return later, partners[later]


def _near_pairs(
    squared: Tensor, stats: RowStats, later: Tensor, others: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield near pairs (later, earlier among `others`), enough at a time to be worth a pass."""
    import torch

    pending = [later.new_empty((0, 2))]
    for start, stop in spans(len(later), max(1, PAIRS_PER_PASS // len(squared))):
        some = later[start:stop]
        near = _near(squared, stats, some)
        pairs = (near & others[: near.shape[1]]).nonzero()
        pairs[:, 0] = some[pairs[:, 0]]
        pending.append(pairs)
        if stop == len(later) or sum(map(len, pending)) >= PAIRS_PER_PASS:
            together = torch.cat(pending)
            pending.clear()
            if len(together):
                yield together[:, 0], together[:, 1]


def _from_differences(
    rows: Rows, first: Tensor, second: Tensor, computation: Computation
) -> Tensor:
    """Return |x - y|^2 for pairs of rows, in one pass over the values of those rows."""
    import torch

    needed, places = torch.unique(torch.stack((first, second)), return_inverse=True)
    squared = first.new_zeros(len(first)).double()
    for block in computation.blocks(rows, needed.cpu().numpy()):
        at_once = max(1, computation.block_bytes // (16 * block.shape[1]))
        for start, stop in spans(len(first), at_once):
            difference = block[places[0, start:stop]].double()
            difference -= block[places[1, start:stop]]
            squared[start:stop] += difference.square_().sum(1)
    return squared


def _copy_to_duplicates(squared: Tensor, duplicates: list[int], originals: list[int]) -> None:
    """Copy the distances of an earlier row to rows identical to it, in the lower triangle."""
    for duplicate, original in zip(duplicates, originals, strict=True):
        squared[duplicate, :original] = squared[original, :original]
        squared[duplicate, original] = 0
        squared[duplicate, original + 1 : duplicate] = squared[original + 1 : duplicate, original]
        squared[duplicate + 1 :, duplicate] = squared[duplicate + 1 :, original]
