"""Finds the line of a user's program that called this package, to which warnings point."""

from __future__ import annotations

import sys
import warnings

_INSIDE = (f"{__name__.partition('.')[0]}.", "contextlib.")
"""This package, and what runs its context managers."""


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn about the line of the program that called this package, however deep the call is."""
    level, frame = 1, sys._getframe()  # noqa: SLF001 - as warnings does
    while frame.f_back is not None and f"{frame.f_globals.get('__name__', '')}.".startswith(
        _INSIDE
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
