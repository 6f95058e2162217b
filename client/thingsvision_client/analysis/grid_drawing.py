"""A grid of RDMs drawn with matplotlib, at places that a layout gives; decides nothing of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.canvas import DPI, blank
from .categories import Run
from .grid_layout import (
    BRACKET_GAP,
    LABEL_SIZE,
    NAME_GAP,
    PICTURE_GAP,
    TITLE_SIZE,
    Box,
    GridLayout,
    Margin,
)
from .grid_strip import Strip, axes_in, left_strip, strip_below
from .lettering import shortened
from .thumbnails import Picture, thumbnail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNDEFINED = "#dedede"
_VECTOR_ENDINGS = (".pdf", ".svg", ".eps", ".ps")


@dataclass(frozen=True)
class Panel:
    """An RDM (images x images) under its title; colours go from `low` to `high`."""

    title: str
    values: npt.NDArray[np.float64]
    low: float
    high: float


@dataclass(frozen=True)
class Grid:
    """What is drawn: `runs` are the rows with a name, `pictures` a file per row."""

    panels: list[Panel]
    runs: list[Run]
    has_categories: bool
    pictures: list[Path] | None
    units: str
    colormap: str


def draw_grid(grid: Grid, layout: GridLayout, path: Path) -> Figure:
    """Return the figure; `path` says by its ending whether pictures are looked at closely."""
    figure = blank(layout.width, layout.height)
    is_vector = path.suffix.lower() in _VECTOR_ENDINGS
    count = len(grid.panels[0].values)
    pictures = _pictures(grid, layout, is_vector=is_vector)
    for number, panel in enumerate(grid.panels):
        box = layout.panel_box(number)
        axes = axes_in(figure, box)
        image = _draw_rdm(axes, panel, grid)
        title = shortened(panel.title or "(model)", TITLE_SIZE, box.width)
        axes.set_title(title, size=TITLE_SIZE, pad=3.5, parse_math=False)
        if layout.is_first(number):
            _fill(left_strip(figure, box, layout.left, count), grid, layout.left, pictures)
        if layout.is_lowest(number):
            _fill(strip_below(figure, box, layout.below, count), grid, layout.below, pictures)
        if layout.bar_per_panel or number == 0:
            _draw_bar(figure, layout.bar_box(number), image, grid)
    return figure


def _draw_rdm(axes: Axes, panel: Panel, grid: Grid) -> Any:
    from matplotlib import colormaps

    colours = colormaps[grid.colormap].with_extremes(bad=_UNDEFINED)
    image = axes.imshow(panel.values, cmap=colours, vmin=panel.low, vmax=panel.high, aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    if grid.has_categories:
        for run in grid.runs[1:]:
            for line in (axes.axhline, axes.axvline):
                line(run.start - 0.5, color="white", linewidth=0.7)
    return image


def _draw_bar(figure: Figure, box: Box, image: Any, grid: Grid) -> None:
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(image, cax=axes_in(figure, box), ticks=MaxNLocator(5))
    bar.set_label(grid.units, size=LABEL_SIZE, labelpad=3)
    bar.ax.tick_params(labelsize=LABEL_SIZE - 1, pad=1.5, length=2)
    bar.outline.set_linewidth(0.5)


def _pictures(grid: Grid, layout: GridLayout, *, is_vector: bool) -> dict[int, Picture]:
    """Return a picture of every `stride`-th row."""
    wanted = layout.left.pictures
    if grid.pictures is None:
        return {}
    pixels = round(wanted.size * DPI * (2 if is_vector else 1))
    rows = range(0, len(grid.pictures), wanted.stride)
    return {row: thumbnail(grid.pictures[row], pixels) for row in rows}


def _fill(strip: Strip, grid: Grid, margin: Margin, pictures: dict[int, Picture]) -> None:
    """Draw what lies along one edge of a panel, from the panel outwards."""
    for number, (row, picture) in enumerate(pictures.items()):
        tier = number % margin.pictures.tiers
        out = PICTURE_GAP + (tier + 0.5) * margin.pictures.size
        strip.put_picture(picture, row, out, size=margin.pictures.size)
    if grid.has_categories:
        for run in grid.runs:
            strip.put_bracket(run.start, run.stop, margin.pictures.depth + BRACKET_GAP)
    for label in margin.labels:
        strip.put_name(label.text, label.place, margin.pictures.depth + margin.bracket + NAME_GAP)
