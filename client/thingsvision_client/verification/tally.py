"""Differences between stored and recomputed rows of features, batch by batch in flat memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..arrays import Array


class DifferenceTally:
    """Compares rows of float32 with other rows of the same images."""

    def __init__(self) -> None:
        self.row_count = 0
        self.is_equal = True
        self._largest_difference = self._largest_activation = 0.0

    def add(self, stored: Array, fresh: Array) -> None:
        """Compare rows; `stored` may have another type, and another shape of as many values."""
        old = np.asarray(stored).astype(np.float32).reshape(len(stored), -1)
        new = np.ascontiguousarray(fresh, np.float32).reshape(len(fresh), -1)
        self.row_count += len(new)
        if _bits_equal(old, new):
            self._count(new, 0.0)
            return
        self.is_equal = False
        self._count(new, _largest_difference(old, new))

    @property
    def largest_difference(self) -> float:
        """The largest difference, relative to the largest activation."""
        if not self._largest_difference:
            return 0.0
        return self._largest_difference / (self._largest_activation or 1.0)

    def _count(self, new: Array, difference: float) -> None:
        finite = np.abs(new[np.isfinite(new)], dtype=np.float64)
        self._largest_activation = max(self._largest_activation, finite.max(initial=0.0))
        self._largest_difference = max(self._largest_difference, difference)


def _bits_equal(old: Any, new: Any) -> bool:
    return old.shape == new.shape and np.array_equal(old.view(np.uint32), new.view(np.uint32))


def _largest_difference(old: Array, new: Array) -> float:
    """Return the largest difference; infinite if only one of two values is finite."""
    if old.shape != new.shape:
        return np.inf
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    left, right = old[~same].astype(np.float64), new[~same].astype(np.float64)
    differences = np.abs(left - right)
    return float(np.nan_to_num(differences, nan=np.inf).max(initial=0.0))
