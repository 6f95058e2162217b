"""Whether two ways to compute the same float32 values agree, on any processor."""

from __future__ import annotations

from typing import Any

import numpy as np

DEEP = 1e-4
"""Limit for a network of a hundred layers and more, as a part of the largest value."""


def assert_close(
    found: Any, expected: Any, part_of_largest: float = 1e-5, *, what: str = ""
) -> None:
    """Fail if values differ by more than a part of the largest expected value.

    A sum in float32 is exact to some 1e-7 of its largest term, whatever is left of it: processors
    add in different orders, so that small values may differ by more than a part of their own.
    The default has room for a few dozen layers.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    limit = part_of_largest * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=what)
