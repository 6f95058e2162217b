"""One score of an RSA: how well the RDM of a module fits a reference."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """How well the RDM of a module fits a reference.

    `score` is the correlation, the mean over `by_subject` where there are several. `low` and
    `high` bound the interval of the bootstrap over images, `ceiling_low` and `ceiling_high` what a
    perfect model could score; None where they were not asked for. `pair_count` is the number of
    pairs of images that were compared.
    """

    reference: str
    module: str
    score: float
    low: float | None = None
    high: float | None = None
    ceiling_low: float | None = None
    ceiling_high: float | None = None
    pair_count: int = 0
    by_subject: tuple[float, ...] = ()
