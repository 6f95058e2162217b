"""The table of all rows, and which of them a run measures."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from .measures import crowd, features, loads, options, rdms, streams
from .row import Row
from .session import Session


class Measure(Protocol):
    """A row before it was measured."""

    @property
    def id(self) -> str:
        """Its name."""

    def measure(self, session: Session) -> Row:
        """Measure it."""


ROWS: Sequence[Measure] = (
    *features.ROWS,
    *options.ROWS,
    *loads.ROWS,
    *crowd.ROWS,
    *rdms.ROWS,
    *streams.ROWS,
)

FULL_ONLY = (*features.FULL_ONLY, *rdms.FULL_ONLY)
QUICK = (
    "alexnet-features.10",
    "alexnet-features.0",
    "resnet50-layer3.5",
    "one-image",
    "clients-one-model",
    "rdm-1854-correlation",
    "rdm-1854-euclidean",
    "stream-2GB",
    "memory",
)


def chosen_rows(patterns: Sequence[str], *, quick: bool, full: bool) -> list[Measure]:
    """Return the rows that match one of the patterns (`rdm-*`); without any, those of the run.

    Raises SystemExit for a pattern that matches nothing.
    """
    for pattern in patterns:
        if not any(fnmatchcase(row.id, pattern) for row in ROWS):
            names = ", ".join(row.id for row in ROWS)
            raise SystemExit(f"No row is called {pattern!r}; there are: {names}")
    if patterns:
        return [row for row in ROWS if any(fnmatchcase(row.id, one) for one in patterns)]
    if quick:
        return [row for row in ROWS if row.id in QUICK]
    return [row for row in ROWS if full or row.id not in FULL_ONLY]
