"""Positions of the panels of a grid of RDMs, in inches from the lower left."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from .categories import Run
from .grid_margins import Margin, margins_of

TITLE_SIZE = 8.0
"""Points."""

_LARGEST_PANEL, _SMALLEST_PANEL = 3.4, 0.5
_EDGE, _GAP = 0.05, 0.14
_TITLE, _BELOW_PANEL = 0.2, 0.06
_BAR_GAP, _BAR_WIDTH, _BAR_ROOM = 0.08, 0.09, 0.58
_POWER_ROOM = 0.3


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True)
class GridLayout:
    """Panels in rows, with margins left of each row and below the lowest panel of each column.

    A colour bar is right of the grid's first row, or right of each panel.
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
        return self.panel + _GAP + (_BAR_ROOM if self.bar_per_panel else 0.0)

    @property
    def width(self) -> float:
        """Width of the figure."""
        shared = 0.0 if self.bar_per_panel else _BAR_ROOM
        return _EDGE + self.left.depth + self.columns * self._step - _GAP + shared + _EDGE

    @property
    def height(self) -> float:
        """Height of the figure."""
        return _EDGE + self.below.depth + self.rows * (self.panel + _TITLE + _BELOW_PANEL)

    @property
    def title_room(self) -> float:
        """Width of a title, which shares its line with the power of ten of a colour bar."""
        return self.panel - _POWER_ROOM

    def panel_box(self, number: int) -> Box:
        """Return the position of a panel."""
        row, column = divmod(number, self.columns)
        left = _EDGE + self.left.depth + column * self._step
        bottom = self.height - (row + 1) * (self.panel + _TITLE + _BELOW_PANEL) + _BELOW_PANEL
        return Box(left, bottom, self.panel, self.panel)

    def bar_box(self, number: int) -> Box:
        """Return the position of a panel's colour bar, or of the shared one in the last column."""
        panel = self.panel_box(number if self.bar_per_panel else self.columns - 1)
        return Box(panel.left + panel.width + _BAR_GAP, panel.bottom, _BAR_WIDTH, panel.height)

    def is_first(self, number: int) -> bool:
        """Tell whether a panel has the left margin."""
        return number % self.columns == 0

    def is_lowest(self, number: int) -> bool:
        """Tell whether a panel has the margin below."""
        return number + self.columns >= self.panel_count


@dataclass(frozen=True)
class GridContent:
    """What needs room: `runs` are the named rows, in brackets if they are categories."""

    panel_count: int
    image_count: int
    runs: list[Run]
    has_brackets: bool
    has_pictures: bool
    bar_per_panel: bool


def grid_layout(content: GridContent, width_inches: float, columns: int | None) -> GridLayout:
    """Return a layout of that width; smaller or larger if the panels need less or more."""
    columns = min(content.panel_count, columns or _columns(content.panel_count))
    bars = _BAR_ROOM * (columns if content.bar_per_panel else 1)
    fixed = 2 * _EDGE + bars + (columns - 1) * _GAP
    panel = _LARGEST_PANEL
    for _ in range(3):  # margins depend on the size of panels, and that on the margins
        left, below = margins_of(
            content.runs,
            content.image_count,
            panel / content.image_count,
            has_brackets=content.has_brackets,
            has_pictures=content.has_pictures,
        )
        room = (width_inches - fixed - left.depth) / columns
        panel = max(_SMALLEST_PANEL, min(_LARGEST_PANEL, room))
    return GridLayout(
        panel_count=content.panel_count,
        columns=columns,
        panel=panel,
        left=left,
        below=below,
        bar_per_panel=content.bar_per_panel,
    )


def _columns(panel_count: int) -> int:
    return panel_count if panel_count <= 3 else min(4, ceil(panel_count**0.5))
