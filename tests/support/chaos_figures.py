"""What happened in a run of chaos: replies, calls made again, faults, losses and wrong rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figures:
    """What happened."""

    requests: Counter[str] = field(default_factory=Counter)
    """Replies that were complete, by kind of call."""
    met: Counter[str] = field(default_factory=Counter)
    """Calls that a fault ended, and that were made again, by error."""
    faults: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    """Calls that failed though no fault explains it, or that never came to an end."""
    wrong_rows: int = 0


def count_wrong_rows(found: Any, expected: Any) -> int:
    """Return how many rows of a reply differ in a bit from the undisturbed run's."""
    if found == expected:
        return 0
    rows, right = (
        [row for part in reply for row in part] if isinstance(reply, list) else [reply]
        for reply in (found, expected)
    )
    return sum(a != b for a, b in zip(rows, right, strict=False)) + abs(len(rows) - len(right))


def table(figures: Figures) -> Sequence[str]:
    """Return the figures as lines."""
    return [
        f"requests {figures.requests.total():,}: {dict(figures.requests)}",
        f"faults {figures.faults.total():,}: {dict(figures.faults)}",
        f"calls made again {figures.met.total():,}: {dict(figures.met)}",
        f"losses {len(figures.losses):,}",
        f"wrong rows {figures.wrong_rows:,}",
    ]
