"""Times rival ways of doing one thing in turn, so that a machine's moods hit all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Arms = Mapping[str, Callable[[], object]]
"""The rivals: what each is called, and the work to time."""


@dataclass(frozen=True)
class Row:
    """A line of the report: a value per arm and round, in `unit`."""

    title: str
    unit: str
    values: dict[str, list[float]]

    def medians(self) -> dict[str, float]:
        """Return the median of every arm."""
        return {arm: median(values) for arm, values in self.values.items()}


def measure(
    title: str, unit: str, arms: Arms, to_unit: Callable[[float], float], *, rounds: int
) -> Row:
    """Run every arm once to warm up, then A B C A B C ...; `to_unit` converts seconds."""
    for work in arms.values():
        work()
    values: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(rounds):
        for arm, work in arms.items():
            values[arm].append(to_unit(_seconds(work)))
    return Row(title, unit, values)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
