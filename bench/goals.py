"""The goals for the figures of each row, and whether they were reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .row import Row


@dataclass(frozen=True)
class Goal:
    """The least ratio of two columns of a row.

    A ratio says how many times better: 2 is twice as many images a second, or half the seconds.
    """

    row: str
    column: str
    other: str
    least: float


@dataclass(frozen=True)
class Ceiling:
    """The most that a figure may be, in the row's unit, after subtracting the column `less`."""

    row: str
    column: str
    most: float
    less: str = ""


@dataclass(frozen=True)
class NoteCeiling:
    """The most that a note of a cell may be."""

    row: str
    column: str
    note: str
    most: float


@dataclass(frozen=True)
class ErrorCeiling:
    """The most that a difference may be."""

    row: str
    column: str
    most: float


AnyGoal = Goal | Ceiling | NoteCeiling | ErrorCeiling


@dataclass(frozen=True)
class Outcome:
    """A goal in words, the measured figure, and whether it reaches the goal; None: not measured."""

    row: str
    goal: str
    seen: float | None
    reached: bool | None


_MAIN_ROWS = ("alexnet-features.10", "resnet50-layer3.5", "vgg16-features.4", "vit_b_16-encoder")
_TO_PEER = dict(zip(_MAIN_ROWS, (1.5, 1.6, 4.0, 1.2), strict=True))
_RDM_TO_PEER = {"correlation": 1.0, "euclidean": 10.0, "gaussian": 20.0}
_LARGEST_ERROR = 1e-5

GOALS: Sequence[AnyGoal] = (
    *(Goal(row, "service", "peer", least) for row, least in _TO_PEER.items()),
    *(Goal(row, "service", "bare", 1.2) for row in _MAIN_ROWS),
    *(Goal(row, "service", "local", 0.95) for row in _MAIN_ROWS),
    *(Goal(row, "local", "limit", 0.95) for row in _MAIN_ROWS[1:]),
    Goal("resnet50-avgpool-tensors", "service", "limit", 0.9),
    Goal("stream-2GB", "service", "stock", 2.0),
    Goal("stream-2GB", "service", "flight", 0.9),
    Ceiling("one-image", "service", 5.0, less="local"),
    Goal("clients-one-model", "16 clients", "1 client", 1.0),
    NoteCeiling("clients-one-model", "16 clients", "p95_spread", 1.2),
    Goal("clients-own-models", "16 clients", "1 client", 1.0),
    NoteCeiling("clients-own-models", "16 clients", "p95_spread", 1.2),
    *(
        Goal(f"rdm-{count}-{metric}", "service", "peer", least)
        for count in (1854, 10_000)
        for metric, least in _RDM_TO_PEER.items()
    ),
    *(
        ErrorCeiling(f"rdm-{count}-{metric}", "service", _LARGEST_ERROR)
        for count in (1854, 10_000)
        for metric in (*_RDM_TO_PEER, "cosine")
    ),
    Ceiling("memory", "client, collecting", 64.0),
    Ceiling("memory", "server, a stream", 64.0),
)


def outcomes(rows: Sequence[Row]) -> Iterator[Outcome]:
    """Yield the outcomes of the goals for these rows."""
    by_id = {row.id: row for row in rows}
    for goal in GOALS:
        if goal.row in by_id and goal.column in by_id[goal.row].cells:
            yield _outcome(goal, by_id[goal.row])


def _outcome(goal: AnyGoal, row: Row) -> Outcome:
    match goal:
        case Goal(_, column, other, least):
            words, seen = f"{column} / {other} >= {least:g}", row.ratio(column, other)
            return Outcome(row.id, words, seen, None if seen is None else seen >= least)
        case Ceiling(_, column, most, less):
            minus = f" - {less}" if less else ""
            words, seen = f"{column}{minus} <= {most:g} {row.unit}", _subtract(row, column, less)
        case NoteCeiling(_, column, note, most):
            words, seen = f"{note} of {column} <= {most:g}", row.cells[column].notes.get(note)
        case ErrorCeiling(_, column, most):
            words, seen = f"error of {column} <= {most:g}", row.cells[column].difference
    return Outcome(row.id, words, seen, None if seen is None else seen <= most)


def _subtract(row: Row, column: str, less: str) -> float | None:
    figure = row.cells[column].median
    base = row.cells[less].median if less else 0.0
    return None if figure is None or base is None else figure - base
