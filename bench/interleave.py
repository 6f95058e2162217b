"""Runs rival implementations in turn, so that changes in the machine's speed affect all equally."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Arms = Mapping[str, Callable[[], float]]
"""The rivals by name: each is a function that does the work and returns its figure."""


@dataclass(frozen=True)
class Patience:
    """How often each arm runs: at most `rounds` times, and not again after `seconds` in all."""

    rounds: int
    seconds: float


def interleave(arms: Arms, patience: Patience) -> dict[str, list[float]]:
    """Run A B C A B C ... and return each arm's figures."""
    figures: dict[str, list[float]] = {arm: [] for arm in arms}
    spent = dict.fromkeys(arms, 0.0)
    for _ in range(patience.rounds):
        for arm, work in arms.items():
            if spent[arm] < patience.seconds:
                began = time.perf_counter()
                figures[arm].append(work())
                spent[arm] += time.perf_counter() - began
    return figures
