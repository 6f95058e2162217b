"""Where the parts of a grid of RDMs lie, in inches from the lower left; draws nothing."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from .categories import Run
from .lettering import height_of, width_of, wrapped

TITLE_SIZE = 8.0
LABEL_SIZE = 7.0

PICTURE_GAP, BRACKET_GAP, NAME_GAP = 0.03, 0.03, 0.02
"""From the panel to pictures, from them to brackets, from those to names."""

_LARGEST_PANEL = 3.4
_EDGE = 0.04
_TITLE = 0.2
_BAR_WIDTH = 0.09
_BAR_ROOM = 0.5
_SMALLEST_PICTURE, _LARGEST_PICTURE = 0.17, 0.5
_MOST_TIERS = 4
_LINE_CHARACTERS = 14


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True)
class Pictures:
    """Pictures along an edge: each so large, of every `stride`-th image, in so many tiers."""

    size: float = 0.0
    stride: int = 1
    tiers: int = 0

    @property
    def depth(self) -> float:
        """Room that they take away from the edge."""
        return self.tiers * self.size + (PICTURE_GAP if self.tiers else 0.0)


@dataclass(frozen=True)
class Label:
    """A name beside the rows that it is of; `place` is the middle of them."""

    text: str
    place: float


@dataclass(frozen=True)
class Margin:
    """What lies along an edge of a panel, from the panel outwards: pictures, brackets, names."""

    pictures: Pictures = Pictures()
    bracket: float = 0.0
    names: float = 0.0
    labels: tuple[Label, ...] = ()
    upright: bool = False

    @property
    def depth(self) -> float:
        """Room in all."""
        return self.pictures.depth + self.bracket + self.names


@dataclass(frozen=True)
class GridLayout:
    """Panels in rows; margins are left of each row, and below the lowest panel of each column.

    `scale_room` is that for a colour bar: right of the grid, or right of each panel.
    """

    panel_count: int
    columns: int
    panel: float
    left: Margin
    below: Margin
    bar_per_panel: bool

    @property
    def rows(self) -> int:
        """Number of rows of panels."""
        return ceil(self.panel_count / self.columns)

    @property
    def _step(self) -> float:
        return self.panel + self._gap + (_BAR_ROOM if self.bar_per_panel else 0.0)

    @property
    def _gap(self) -> float:
        return max(0.12, self.below.pictures.size)

    @property
    def width(self) -> float:
        """Width of the figure."""
        shared = 0.0 if self.bar_per_panel else _BAR_ROOM
        return _EDGE + self.left.depth + self.columns * self._step - self._gap + shared + _EDGE

    @property
    def height(self) -> float:
        """Height of the figure."""
        return _EDGE + self.below.depth + self.rows * (self.panel + _TITLE + 0.06)

    def panel_box(self, number: int) -> Box:
        """Return where a panel lies."""
        row, column = divmod(number, self.columns)
        left = _EDGE + self.left.depth + column * self._step
        bottom = self.height - (row + 1) * (self.panel + _TITLE + 0.06) + 0.06
        return Box(left, bottom, self.panel, self.panel)

    def bar_box(self, number: int) -> Box:
        """Return where the colour bar of a panel lies, or that of all beside the last column."""
        panel = self.panel_box(number if self.bar_per_panel else self.columns - 1)
        return Box(panel.left + panel.width + 0.08, panel.bottom, _BAR_WIDTH, panel.height)

    def is_first(self, number: int) -> bool:
        """Tell whether a panel has the left margin."""
        return number % self.columns == 0

    def is_lowest(self, number: int) -> bool:
        """Tell whether a panel has the margin below."""
        return number + self.columns >= self.panel_count


def grid_layout(
    panel_count: int,
    image_count: int,
    *,
    columns: int | None,
    runs: list[Run],
    has_brackets: bool,
    has_pictures: bool,
    bar_per_panel: bool,
    width_inches: float,
) -> GridLayout:
    """Return a layout as wide as `width_inches`, unless the panels would be larger than need be."""
    columns = min(panel_count, columns or min(4, ceil(panel_count**0.5)))
    bars = _BAR_ROOM * (columns if bar_per_panel else 1)
    panel = _LARGEST_PANEL
    for _ in range(3):  # pictures depend on the panel's size, which depends on their room
        pictures = _pictures(panel / image_count) if has_pictures else Pictures()
        left, below = _margins(runs, pictures, panel / image_count, has_brackets=has_brackets)
        gaps = (columns - 1) * max(0.12, pictures.size)
        room = width_inches - 2 * _EDGE - left.depth - bars - gaps
        panel = max(0.5, min(_LARGEST_PANEL, room / columns))
    return GridLayout(panel_count, columns, panel, left, below, bar_per_panel)


def _pictures(cell: float) -> Pictures:
    if cell >= _SMALLEST_PICTURE:
        return Pictures(min(cell, _LARGEST_PICTURE), 1, 1)
    tiers = min(_MOST_TIERS, ceil(_SMALLEST_PICTURE / cell))
    stride = ceil(_SMALLEST_PICTURE / (tiers * cell))
    return Pictures(tiers * stride * cell, stride, tiers)


def _margins(
    runs: list[Run], pictures: Pictures, cell: float, *, has_brackets: bool
) -> tuple[Margin, Margin]:
    bracket = 0.05 if has_brackets else 0.0
    if not runs:
        return Margin(pictures), Margin(pictures)
    texts = {run: wrapped(run.name, _LINE_CHARACTERS) for run in runs}
    tall = {run: height_of(text, LABEL_SIZE) for run, text in texts.items()}
    wide = {run: width_of(text, LABEL_SIZE) + 0.06 for run, text in texts.items()}
    upright = any(wide[run] > (run.stop - run.start) * cell for run in runs)
    left = _fitting(runs, tall, cell)
    below = _fitting(runs, tall if upright else wide, cell)
    across = max(wide.values()) + NAME_GAP
    down = across if upright else max(tall.values()) + NAME_GAP
    return (
        Margin(pictures, bracket, across, _labels(left, texts)),
        Margin(pictures, bracket, down, _labels(below, texts), upright),
    )


def _labels(runs: list[Run], texts: dict[Run, str]) -> tuple[Label, ...]:
    return tuple(Label(texts[run], run.centre) for run in runs)


def _fitting(runs: list[Run], needs: dict[Run, float], cell: float) -> list[Run]:
    """Return runs whose names don't overlap: those of the most images come first."""
    kept: list[Run] = []
    for run in sorted(runs, key=lambda one: (one.start - one.stop, one.start)):
        if all(
            abs(run.centre - other.centre) * cell >= (needs[run] + needs[other]) / 2
            for other in kept
        ):
            kept.append(run)
    return sorted(kept, key=lambda one: one.start)
