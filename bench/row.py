"""One row of the report: what was compared, and each column's figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Cell:
    """One column's figures in a row; `missing` is the reason if there are none."""

    values: list[float] = field(default_factory=list)
    difference: float | None = None
    """Largest relative difference of its result from the row's reference."""
    notes: dict[str, Any] = field(default_factory=dict)
    missing: str = ""

    @property
    def median(self) -> float | None:
        """Return the median of the figures."""
        return median(self.values) if self.values else None


@dataclass
class Row:
    """A row: its figures are in `unit`, and `says` describes what is compared."""

    id: str
    says: str
    unit: str
    cells: dict[str, Cell]
    more_is_better: bool = True
    differs_from: str = "local, of its largest value"
    """The reference of each cell's `difference`, and its scale."""

    def ratio(self, column: str, other: str) -> float | None:
        """Return how many times better a column is than another; None if either is missing."""
        mine, theirs = self._median(column), self._median(other)
        if not mine or not theirs:
            return None
        return mine / theirs if self.more_is_better else theirs / mine

    def _median(self, column: str) -> float | None:
        cell = self.cells.get(column)
        return cell.median if cell else None
