"""Features with near duplicates among them, and the largest error of their distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

VALUES = 4096
NEAR_DUPLICATES = {1: 1e-2, 3: 1e-3, 5: 1e-4}
"""Rows that are the previous row plus noise of this size."""


def features(count: int) -> Array:
    """Return seeded features like those after a ReLU, some rows being near duplicates."""
    random = np.random.default_rng(0)
    rows = np.maximum(random.standard_normal((count, VALUES), dtype=np.float32), 0)
    for row, size in NEAR_DUPLICATES.items():
        noise = random.standard_normal(VALUES, dtype=np.float32)
        rows[row] = rows[row - 1] + np.float32(size) * noise
    return rows


def largest_error(rdm: Array, exact: Array) -> float:
    """Return the largest relative error of the first rows, except on the diagonal."""
    found = rdm[: len(exact)].astype(np.float64)
    apart = exact > 0
    return float((np.abs(found - exact)[apart] / exact[apart]).max())
