"""Finds the line of a user's program that called this package, to which warnings point."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_INSIDE = (f"{__name__.partition('.')[0]}.", "contextlib.")
"""This package, and what runs its context managers."""


Held = list[tuple[str, type[Warning]]]
"""Warnings of a thread, whose caller gives them."""

_held: ContextVar[Held | None] = ContextVar("held", default=None)


@contextmanager
def hold_warnings() -> Iterator[Held]:
    """Collect the warnings of a block instead of giving them: a thread has no caller."""
    found: Held = []
    token = _held.set(found)
    try:
        yield found
    finally:
        _held.reset(token)


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn about the line of the program that called this package, however deep the call is."""
    if (held := _held.get()) is not None:
        held.append((text, category))
        return
    level, frame = 1, sys._getframe()  # noqa: SLF001 - as warnings does
    while frame.f_back is not None and f"{frame.f_globals.get('__name__', '')}.".startswith(
        _INSIDE
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
