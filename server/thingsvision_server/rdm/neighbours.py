"""Squared distances of nearly equal rows, from their differences rather than inner products.

From inner products d^2 = g_ii + g_jj - 2 g_ij has an error of about 1e-16 (g_ii + g_jj), which
is all there is for near duplicates. Where d^2 is below `NEAR` of the sum, it is computed again;
above, the error of d stays under 1e-9 of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .gram import Work
from .metrics import RowStats
from .rows import Rows, spans

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 1e-6
"""Rows are near when their squared distance is below this part of their squared lengths."""

PAIRS_PER_PASS = 1 << 20
"""A pass over all values compares about so many pairs, at most twice as many."""


def recompute_near(squared: Tensor, rows: Rows, stats: RowStats, work: Work) -> None:
    """Replace squared distances of near rows, in place, in the lower triangle of N x N.

    Rows identical to an earlier one take over its distances: a film of 5,000 black frames has
    12 million near pairs, but needs to be compared 5,000 times only.
    """
    import torch

    partners = _closest_partners(squared, stats, work)
    later = (partners >= 0).nonzero().flatten()
    if not len(later):
        return
    found = _from_differences(rows, later, partners[later], work)
    twins = later[found == 0]
    others = torch.ones(len(squared), dtype=torch.bool, device=squared.device)
    others[twins] = False
    for first, second in _near_pairs(squared, stats, others, work):
        squared[first, second] = _from_differences(rows, first, second, work)
    _copy_twins(squared, twins.tolist(), partners[twins].tolist())


def _near(squared: Tensor, stats: RowStats, start: int, stop: int) -> Tensor:
    """Return which of rows [start, stop) are near which earlier rows, as [stop - start] x stop."""
    lengths = stats.squares[start:stop, None] + stats.squares[:stop]
    return (squared[start:stop, :stop] < lengths.mul_(NEAR)).tril_(start - 1)


def _closest_partners(squared: Tensor, stats: RowStats, work: Work) -> Tensor:
    """Return for every row the closest earlier one that it is near to, [N]; -1: there is none.

    That finds twins: their distance is rounding, less than what most other rows have.
    """
    import torch

    partners = squared.new_full((len(squared),), -1).long()
    for start, stop in work.strips(len(squared)):
        near = _near(squared, stats, start, stop)
        least, index = squared[start:stop, :stop].masked_fill(~near, torch.inf).min(dim=1)
        partners[start:stop] = index.where(least.isfinite(), partners[start:stop])
    return partners


def _near_pairs(
    squared: Tensor, stats: RowStats, others: Tensor, work: Work
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield near pairs (later, earlier) among `others`, so many that a pass is worth it."""
    import torch

    pending = [squared.new_empty((0, 2)).long()]
    for start, stop in spans(len(squared), max(1, PAIRS_PER_PASS // len(squared))):
        near = _near(squared, stats, start, stop) & others[start:stop, None] & others[:stop]
        pairs = near.nonzero()
        pairs[:, 0] += start
        pending.append(pairs)
        if stop == len(squared) or sum(map(len, pending)) >= PAIRS_PER_PASS:
            together = torch.cat(pending)
            pending.clear()
            if len(together):
                yield together[:, 0], together[:, 1]


def _from_differences(rows: Rows, first: Tensor, second: Tensor, work: Work) -> Tensor:
    """Return |x - y|^2 of pairs of rows, in one pass over all values."""
    squared = first.new_zeros(len(first)).double()
    for block in work.blocks(rows):
        at_once = max(1, work.block_bytes // (16 * block.shape[1]))
        for start, stop in spans(len(first), at_once):
            difference = block[first[start:stop]].double()
            difference -= block[second[start:stop]]
            squared[start:stop] += difference.square_().sum(1)
    return squared


def _copy_twins(squared: Tensor, twins: list[int], originals: list[int]) -> None:
    """Give rows that are identical to an earlier one its distances, in the lower triangle."""
    for twin, original in zip(twins, originals, strict=True):
        squared[twin, :original] = squared[original, :original]
        squared[twin, original] = 0
        squared[twin, original + 1 : twin] = squared[original + 1 : twin, original]
        squared[twin + 1 :, twin] = squared[twin + 1 :, original]
