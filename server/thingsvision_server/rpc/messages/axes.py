"""Turns what axes are into words of the contract."""

from __future__ import annotations

from collections.abc import Iterable


def axis_words(axes: Iterable[str]) -> list[str]:
    """Return the name of each axis in the contract."""
    return [f"AXIS_{name.upper() or 'UNSPECIFIED'}" for name in axes]
