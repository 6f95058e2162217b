"""The margins of an RDM: which pictures and names have room along its edge.

Lengths are inches; positions along the edge are rows of the RDM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from .categories import Run
from .lettering import height_of, width_of, wrap_text

LABEL_SIZE = 7.0
"""Points."""

PICTURE_GAP, BRACKET_GAP, NAME_GAP = 0.03, 0.03, 0.02
"""Gaps between panel and pictures, pictures and brackets, brackets and names."""

_BRACKET = 0.05
_SMALLEST_PICTURE, _LARGEST_PICTURE = 0.17, 0.5
_MOST_TIERS = 3
_LINE_CHARACTERS = 14
_AIR = 0.04


@dataclass(frozen=True)
class PicturePlace:
    """The place of a row's picture: its middle along the edge, in rows, and its tier."""

    row: int
    along: float
    tier: int


@dataclass(frozen=True)
class Pictures:
    """Pictures along an edge, in tiers; `size` is the side of each square."""

    size: float = 0.0
    tiers: int = 0
    places: tuple[PicturePlace, ...] = ()

    @property
    def depth(self) -> float:
        """Room that the pictures take."""
        return self.tiers * self.size + (PICTURE_GAP if self.tiers else 0.0)


@dataclass(frozen=True)
class Label:
    """A name beside its rows; `place` is their middle."""

    text: str
    place: float


@dataclass(frozen=True)
class Margin:
    """The content of one margin, from the panel outwards: pictures, brackets, names."""

    pictures: Pictures = Pictures()
    bracket: float = 0.0
    names: float = 0.0
    labels: tuple[Label, ...] = ()
    upright: bool = False

    @property
    def depth(self) -> float:
        """Total room."""
        return self.pictures.depth + self.bracket + self.names


def margins_of(
    runs: list[Run], count: int, cell: float, *, has_brackets: bool, has_pictures: bool
) -> tuple[Margin, Margin]:
    """Return the left and lower margins of an RDM of `count` rows, each `cell` long.

    `runs` are the rows to name; names without room are left out.
    """
    pictures = _pictures(runs or [Run("", 0, count)], cell) if has_pictures else Pictures()
    if not runs:
        return Margin(pictures), Margin(pictures)
    bracket = _BRACKET if has_brackets else 0.0
    texts = {run: wrap_text(run.name, _LINE_CHARACTERS) for run in runs}
    tall = {run: height_of(text, LABEL_SIZE) for run, text in texts.items()}
    wide = {run: width_of(text, LABEL_SIZE) + _AIR for run, text in texts.items()}
    upright = any(wide[run] > (run.stop - run.start) * cell for run in runs)
    left = _labels(_without_overlap(runs, tall, cell), texts)
    below = _labels(_without_overlap(runs, tall if upright else wide, cell), texts)
    across = max(wide.values()) + NAME_GAP
    down = across if upright else max(tall.values()) + NAME_GAP
    return (
        Margin(pictures, bracket, across, left),
        Margin(pictures, bracket, names=down, labels=below, upright=upright),
    )


def _pictures(runs: list[Run], cell: float) -> Pictures:
    """Return all pictures beside their rows if there is room, otherwise some of each run."""
    if cell >= _SMALLEST_PICTURE:
        rows = range(runs[-1].stop)
        places = tuple(PicturePlace(row, row, 0) for row in rows)
        return Pictures(min(cell, _LARGEST_PICTURE), 1, places)
    tiers = min(_MOST_TIERS, ceil(_SMALLEST_PICTURE / cell))
    places = tuple(place for run in runs for place in _places(run, cell, tiers))
    if not places:  # runs are shorter than a picture
        places = tuple(_places(Run("", 0, runs[-1].stop), cell, tiers))
    return Pictures(_SMALLEST_PICTURE, tiers, places)


def _places(run: Run, cell: float, tiers: int) -> Iterator[PicturePlace]:
    """Yield a block of pictures beside a run: in order, each near its row."""
    count = run.stop - run.start
    slots = int(count * cell / _SMALLEST_PICTURE)
    shown = min(count, slots * tiers)
    for number in range(shown):
        slot, tier = divmod(number, tiers)
        along = run.start - 0.5 + (slot + 0.5) * count / slots
        yield PicturePlace(run.start + (2 * number + 1) * count // (2 * shown), along, tier)


def _labels(runs: list[Run], texts: dict[Run, str]) -> tuple[Label, ...]:
    return tuple(Label(texts[run], run.centre) for run in runs)


def _without_overlap(runs: list[Run], needs: dict[Run, float], cell: float) -> list[Run]:
    """Return runs whose names don't overlap, those with most images first."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda one: (one.start - one.stop, one.start)):
        if all(
            abs(run.centre - other.centre) * cell >= (needs[run] + needs[other]) / 2
            for other in kept
        ):
            kept.append(run)
    return sorted(kept, key=lambda one: one.start)
