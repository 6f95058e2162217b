"""How far rows of features are from others, batch by batch in flat memory; knows no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..arrays import Array


class DifferenceTally:
    """Compares rows of float32 with others of the same images."""

    def __init__(self) -> None:
        self.row_count = 0
        self.is_equal = True
        self._largest_difference = self._largest_activation = 0.0

    def add(self, kept: Array, fresh: Array) -> None:
        """Compare rows; `kept` may have another type and shape, of as many values."""
        old = np.asarray(kept).astype(np.float32).reshape(len(kept), -1)
        new = np.ascontiguousarray(fresh, np.float32).reshape(len(fresh), -1)
        self.row_count += len(new)
        if _bits_equal(old, new):
            self._see(new, 0.0)
            return
        self.is_equal = False
        self._see(new, _largest_difference(old, new))

    @property
    def largest_difference(self) -> float:
        """Return the largest difference as a part of the largest activation."""
        if not self._largest_difference:
            return 0.0
        return self._largest_difference / (self._largest_activation or 1.0)

    def _see(self, new: Array, difference: float) -> None:
        finite = np.abs(new[np.isfinite(new)], dtype=np.float64)
        self._largest_activation = max(self._largest_activation, finite.max(initial=0.0))
        self._largest_difference = max(self._largest_difference, difference)


def _bits_equal(old: Any, new: Any) -> bool:
    return old.shape == new.shape and np.array_equal(old.view(np.uint32), new.view(np.uint32))


def _largest_difference(old: Array, new: Array) -> float:
    """Return the largest one; infinite where one value is finite and the other is not."""
    if old.shape != new.shape:
        return np.inf
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    left, right = old[~same].astype(np.float64), new[~same].astype(np.float64)
    differences = np.abs(left - right)
    return float(np.nan_to_num(differences, nan=np.inf).max(initial=0.0))
