"""A grid of RDMs, drawn with matplotlib at the positions of a layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .canvas import DPI, new_figure
from .categories import Run
from .grid_layout import TITLE_SIZE, Box, GridLayout
from .grid_margins import BRACKET_GAP, LABEL_SIZE, NAME_GAP, PICTURE_GAP, Margin
from .grid_strip import Strip, axes_in, strip_of
from .lettering import POINTS_PER_INCH, shorten
from .thumbnails import Picture, thumbnail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNDEFINED = "#dcdcdc"
_VECTOR_ENDINGS = (".pdf", ".svg", ".eps", ".ps")
_NARROWEST_RUN = 0.04
_LINE = 0.7
_SWATCH, _SWATCH_ROOM = 0.09, 0.2


@dataclass(frozen=True)
class Panel:
    """An RDM (images x images) under its title; colours go from `low` to `high`."""

    title: str
    values: npt.NDArray[np.float64]
    low: float
    high: float

    @property
    def has_gaps(self) -> bool:
        """Tell whether some pairs have no value."""
        return bool(np.isnan(self.values[np.triu_indices(len(self.values), k=1)]).any())


@dataclass(frozen=True)
class Grid:
    """The content of a figure: `runs` are the named rows, `pictures` a file per row."""

    panels: list[Panel]
    runs: list[Run]
    has_categories: bool
    pictures: list[Path] | None
    units: str
    colormap: str


def draw_grid(grid: Grid, layout: GridLayout, path: Path) -> Figure:
    """Return the figure; the ending of `path` decides how pictures are scaled."""
    figure = new_figure(layout.width, layout.height)
    count = len(grid.panels[0].values)
    is_vector = path.suffix.lower() in _VECTOR_ENDINGS
    pictures = _pictures(grid, layout.left, is_vector=is_vector)
    for number, panel in enumerate(grid.panels):
        box = layout.panel_box(number)
        image = _draw_rdm(axes_in(figure, box), box.width, panel, grid)
        _name_panel(image.axes, panel.title, layout.title_room)
        sides = {True: layout.is_first(number), False: layout.is_lowest(number)}
        for is_left in (side for side, is_there in sides.items() if is_there):
            margin = layout.left if is_left else layout.below
            if margin.depth:
                strip = strip_of(figure, box, margin, count, is_left=is_left, is_vector=is_vector)
                _fill(strip, grid, margin, pictures)
        if layout.bar_per_panel or number == 0:
            shown = [panel] if layout.bar_per_panel else grid.panels
            has_gaps = any(one.has_gaps for one in shown)
            _draw_bar(figure, layout.bar_box(number), image, grid.units, has_gaps=has_gaps)
    return figure


def _draw_rdm(axes: Axes, width: float, panel: Panel, grid: Grid) -> Any:
    from matplotlib import colormaps

    colours = colormaps[grid.colormap].with_extremes(bad=_UNDEFINED)
    image = axes.imshow(panel.values, cmap=colours, vmin=panel.low, vmax=panel.high, aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    if _has_parts(grid, width):
        shortest = min(run.stop - run.start for run in grid.runs) * width / len(panel.values)
        thickness = min(_LINE, shortest * POINTS_PER_INCH / 12)  # lines must not hide rows
        for run in grid.runs[1:]:
            for line in (axes.axhline, axes.axvline):
                line(run.start - 0.5, color="white", linewidth=thickness)
    return image


def _name_panel(axes: Axes, title: str, room: float) -> None:
    short = shorten(title or "(model)", TITLE_SIZE, room)
    axes.set_title(short, size=TITLE_SIZE, pad=3.5, parse_math=False)


def _has_parts(grid: Grid, width: float) -> bool:
    """Tell whether to separate categories: not if the lines would hide the RDM."""
    return grid.has_categories and width / len(grid.runs) >= _NARROWEST_RUN


def _draw_bar(figure: Figure, box: Box, image: Any, units: str, *, has_gaps: bool) -> None:
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    below = _SWATCH_ROOM if has_gaps else 0.0
    bar_axes = axes_in(figure, Box(box.left, box.bottom + below, box.width, box.height - below))
    numbers = ScalarFormatter(useMathText=True)
    numbers.set_powerlimits((-2, 4))
    bar = figure.colorbar(image, cax=bar_axes, ticks=MaxNLocator(5), format=numbers)
    bar.set_label(units, size=LABEL_SIZE, labelpad=3)
    bar.ax.tick_params(labelsize=LABEL_SIZE - 1, pad=1.5, length=2)
    bar.ax.yaxis.get_offset_text().set_fontsize(LABEL_SIZE - 1)
    bar.outline.set_linewidth(0.5)
    if has_gaps:
        swatch = axes_in(figure, Box(box.left, box.bottom, _SWATCH, _SWATCH))
        swatch.set(xticks=[], yticks=[], facecolor=_UNDEFINED)
        swatch.text(1.35, 0.5, "NaN", size=LABEL_SIZE - 1, va="center")


def _pictures(grid: Grid, margin: Margin, *, is_vector: bool) -> dict[int, Picture]:
    """Return the pictures to show, in the pixels they need, or twice that in vector formats."""
    if grid.pictures is None:
        return {}
    pixels = round(margin.pictures.size * DPI * (2 if is_vector else 1))
    return {
        place.row: thumbnail(grid.pictures[place.row], pixels) for place in margin.pictures.places
    }


def _fill(strip: Strip, grid: Grid, margin: Margin, pictures: dict[int, Picture]) -> None:
    """Draw the content of one margin of a panel, from the panel outwards."""
    size = margin.pictures.size
    for place in margin.pictures.places:
        out = PICTURE_GAP + (place.tier + 0.5) * size
        strip.put_picture(pictures[place.row], place.along, out, size=0.94 * size)
    edge = margin.pictures.depth
    for run in grid.runs if _has_parts(grid, strip.length) else ():
        strip.put_bracket(run.start, run.stop, edge + BRACKET_GAP)
    for label in margin.labels:
        strip.put_name(label.text, label.place, edge + margin.bracket + NAME_GAP)
