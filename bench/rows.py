"""The table of all rows, and the selection of rows for a run."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from .measures import concurrency, features, loads, options, rdms, streams
from .row import Row
from .session import Session


class Measure(Protocol):
    """A row that can be measured."""

    @property
    def id(self) -> str:
        """The row's name."""

    def measure(self, session: Session) -> Row:
        """Measure the row."""


ROWS: Sequence[Measure] = (
    *features.ROWS,
    *options.ROWS,
    *loads.ROWS,
    *concurrency.ROWS,
    *rdms.ROWS,
    *streams.ROWS,
)

FULL_ONLY = (*features.FULL_ONLY, *rdms.FULL_ONLY, *streams.FULL_ONLY)
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


def select_rows(patterns: Sequence[str], *, quick: bool, full: bool) -> list[Measure]:
    """Return the rows that match a pattern such as `rdm-*`; without patterns, the default rows.

    Raises SystemExit for a pattern that matches no row.
    """
    for pattern in patterns:
        if not any(fnmatchcase(row.id, pattern) for row in ROWS):
            names = ", ".join(row.id for row in ROWS)
            raise SystemExit(f"No row matches {pattern!r}. Rows: {names}")
    if patterns:
        return [row for row in ROWS if any(fnmatchcase(row.id, p) for p in patterns)]
    if quick:
        return [row for row in ROWS if row.id in QUICK]
    return [row for row in ROWS if full or row.id not in FULL_ONLY]
