"""Draws rows as bar charts, in SVG for pages and in PNG for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report import figure_text
from .row import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMATS = ("svg", "png")
_ROW_INCHES, _BAR_INCHES, _WIDTH_INCHES = 0.5, 0.2, 8.0
_PNG_DPI = 150

COLOURS = {
    "limit": "#b8b8b8",
    "tcp": "#b8b8b8",
    "local": "#7fb3d5",
    "service": "#1f618d",
    "collected": "#5499c7",
    "client": "#5dade2",
    "bare": "#e59866",
    "flight": "#e59866",
    "peer": "#a04000",
    "stock": "#a04000",
    "formula": "#a04000",
}
_OTHERS = ("#1f618d", "#7fb3d5", "#e59866", "#a04000", "#b8b8b8")


@dataclass(frozen=True)
class Plot:
    """A chart of the rows whose names begin with one of `beginnings`."""

    name: str
    title: str
    beginnings: tuple[str, ...]
    relative_to: str = ""
    """The column that is scaled to 1 in every row; empty: no scaling."""
    is_logarithmic: bool = False


PLOTS = (
    Plot(
        "throughput",
        "Images per second, limit = 1",
        ("alexnet", "resnet50", "squeezenet1_0", "vgg16", "vit", "keras"),
        relative_to="limit",
    ),
    Plot("latency", "From request to features of one image, ms", ("one-image",)),
    Plot("cold-start", "New process to features of one image, s", ("cold-start",)),
    Plot("options", "Images per second, default options = 1", ("options",), relative_to="service"),
    Plot("clients", "Images per second of all clients together", ("clients",)),
    Plot("rdm", "RDM of N x 4,096 features, s", ("rdm",), is_logarithmic=True),
    Plot("stream", "Early-layer activations, MB/s", ("stream",)),
    Plot("memory", "Peak of memory above result and start, MB", ("memory",)),
)


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the charts that have rows, and return their paths."""
    paths = []
    for plot in PLOTS:
        chosen = [row for row in rows if row.id.startswith(plot.beginnings)]
        if any(cell.values for row in chosen for cell in row.cells.values()):
            paths += _draw(plot, chosen, folder)
    return paths


def _draw(plot: Plot, rows: Sequence[Row], folder: Path) -> list[Path]:
    from matplotlib.figure import Figure

    bar_count = sum(len(_bars(plot, row)) for row in rows)
    height = 1 + _ROW_INCHES * len(rows) + _BAR_INCHES * bar_count
    figure: Any = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
    axes = figure.add_subplot()
    _draw_rows(axes, plot, rows)
    axes.set_title(plot.title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if plot.is_logarithmic:
        axes.set_xscale("log")
    axes.margins(x=0.15)
    paths = [folder / f"{plot.name}.{ending}" for ending in _FORMATS]
    for path in paths:
        figure.savefig(path, dpi=_PNG_DPI)
    return paths


def _draw_rows(axes: Axes, plot: Plot, rows: Sequence[Row]) -> None:
    place, ticks = 0.0, []
    drawn: dict[str, str] = {}
    for row in rows:
        bars = _bars(plot, row)
        ticks.append(place - (len(bars) - 1) / 2)
        for name, (length, text) in bars.items():
            colour = drawn.setdefault(name, _colour(name, len(drawn)))
            label = None if name in axes.get_legend_handles_labels()[1] else name
            axes.barh(place, length, height=0.85, color=colour, label=label)
            axes.text(length, place, f" {text}", va="center", fontsize=7)
            place -= 1
        place -= 1.2
    axes.set_yticks(ticks, [row.id for row in rows], fontsize=8)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _bars(plot: Plot, row: Row) -> dict[str, tuple[float, str]]:
    """Return the length and label of each column's bar."""
    bars = {}
    for name, cell in row.cells.items():
        length = row.ratio(name, plot.relative_to) if plot.relative_to else cell.median
        if length is not None and cell.median is not None:
            bars[name] = (length, figure_text(cell.median))
    return bars


def _colour(name: str, number: int) -> str:
    return COLOURS.get(name, _OTHERS[number % len(_OTHERS)])
