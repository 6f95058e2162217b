"""Bars of the scores of an RSA: a panel per reference, a bar per module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls.signatures import check_arguments
from ..figures.canvas import check_format, new_figure, use_style, write_figure
from ..figures.lettering import height_of, shorten, width_of
from ..origins.document import write_document
from ..origins.replacing import check_free
from .score import without_nan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .score import Score

AXIS_LABELS = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's ρ",
    "kendall": "Kendall's τ-b",
    "tau-a": "Kendall's τ-a",
    "rho-a": "expected Spearman's ρ (ρ-a)",
    "cosine": "cosine similarity",
    "corr_cov": "whitened Pearson's r",
    "cosine_cov": "whitened cosine similarity",
}
"""Label of the axis of scores, by correlation."""

_SIZE = 7.0
_TITLE_SIZE = 8.0
_PANEL_HEIGHT = 1.7
_TITLE_HEIGHT = 0.25
_LEFT, _RIGHT, _GAP = 0.56, 0.08, 0.16
_BAR, _NARROWEST_BAR = 0.26, 0.16
_NARROWEST_PANEL = 0.9
_LONGEST_NAME = 1.3
_BLUE, _GREY, _BAND = "#3b6ea8", "#555555", "#d9d9d9"


@check_arguments
def plot_scores(
    path: str | Path,
    scores: Sequence[Score],
    correlation: str,
    *,
    width_inches: float = 7.2,
    color: str = _BLUE,
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Draw scores as bars into a file, with a panel per reference; see `RSAResult.plot`.

    Args:
        path: The file; its ending (`.png`, `.svg`, `.pdf`) chooses the format.
        scores: The scores, such as `RSAResult.scores`.
        correlation: How RDMs were compared, such as `RSAResult.correlation`; labels the axis.
        width_inches: Largest width of the figure; panels that don't fit side by side go below.
        color: Colour of the bars, as matplotlib takes it.
        overwrite: Replace a figure of something else; otherwise it is an error.
        facts: What else is known of the scores, in values that JSON can hold, for the JSON file
            beside the figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InvalidRequestError: An unknown format, or a figure of something else at the path.

    Example:
        ```python
        from thingsvision_client.analysis.bars import plot_scores
        from thingsvision_client.analysis.score import Score

        scores = [Score("human IT", "features.3", 0.11), Score("human IT", "features.10", 0.23)]
        plot_scores("results/scores.svg", scores, "spearman", width_inches=3.5)
        ```

    """
    document = {
        **(facts or {}),
        "inputs": {
            f"{one.module} with {one.reference}": without_nan(asdict(one)) for one in scores
        },
        "correlation": correlation,
        "figure": {"width_inches": width_inches, "color": color},
    }
    with use_style():
        check_format(Path(path))
    check_free(Path(path), document, overwrite=overwrite)
    draw_scores(path, scores, correlation, width_inches=width_inches, color=color)
    write_document(Path(path), document)


def draw_scores(
    path: str | Path,
    scores: Sequence[Score],
    correlation: str,
    *,
    width_inches: float = 7.2,
    color: str = _BLUE,
) -> None:
    """Write the figure of `plot_scores` alone."""
    panels = _by_reference(scores)
    modules = list(dict.fromkeys(score.module for score in scores))
    with use_style():
        check_format(Path(path))
        layout = _layout(len(panels), modules, width_inches)
        figure = new_figure(layout.width, layout.height)
        low, high = _limits(scores)
        for number, (reference, of_reference) in enumerate(panels.items()):
            axes = figure.add_axes(layout.place(number))
            axes.set_ylim(low, high)
            _draw(axes, of_reference, color)
            if number == 0:
                _name_ceiling(axes, of_reference[0])
            _name_bars(axes, layout, modules, is_last=layout.is_last(number))
            _name_panel(axes, reference, layout)
            if number % layout.columns == 0:
                axes.set_ylabel(AXIS_LABELS[correlation])
            else:
                axes.tick_params(labelleft=False)
        write_figure(figure, Path(path))


def _by_reference(scores: Sequence[Score]) -> dict[str, list[Score]]:
    panels: dict[str, list[Score]] = {}
    for score in scores:
        panels.setdefault(score.reference, []).append(score)
    return panels


@dataclass(frozen=True)
class _Layout:
    """Positions of panels, in inches; `names` is the room below for module names."""

    panel_count: int
    columns: int
    panel_width: float
    names: float

    @property
    def rows(self) -> int:
        return ceil(self.panel_count / self.columns)

    @property
    def width(self) -> float:
        return _LEFT + _RIGHT + self.columns * (self.panel_width + _GAP) - _GAP

    @property
    def height(self) -> float:
        return self.rows * (_PANEL_HEIGHT + _TITLE_HEIGHT) + self.names + 0.05

    def is_last(self, number: int) -> bool:
        """Tell whether the panel is the lowest of its column."""
        return number + self.columns >= self.panel_count

    def place(self, number: int) -> tuple[float, float, float, float]:
        """Return left, bottom, width and height of a panel, relative to the figure."""
        row, column = divmod(number, self.columns)
        left = _LEFT + column * (self.panel_width + _GAP)
        above = (row + 1) * (_PANEL_HEIGHT + _TITLE_HEIGHT)
        bottom = self.height - above
        return (
            left / self.width,
            bottom / self.height,
            self.panel_width / self.width,
            _PANEL_HEIGHT / self.height,
        )


def _layout(count: int, modules: Sequence[str], width_inches: float) -> _Layout:
    bars = len(modules) + 0.2
    room = width_inches - _LEFT - _RIGHT + _GAP
    narrowest = max(_NARROWEST_PANEL, _NARROWEST_BAR * bars)
    columns = max(1, min(count, int(room / (narrowest + _GAP))))
    panel_width = min(max(_NARROWEST_PANEL, _BAR * bars), room / columns - _GAP)
    longest = max(width_of(name, _SIZE) for name in modules)
    return _Layout(count, columns, panel_width, min(longest, _LONGEST_NAME) + 0.1)


def _limits(scores: Sequence[Score]) -> tuple[float, float]:
    """Return limits for all panels, which include 0 and some margin."""
    shown = [0.0]
    for score in scores:
        found = (score.score, score.low, score.high, score.ceiling_low, score.ceiling_high)
        shown += [value for value in found if value is not None and isfinite(value)]
    air = (max(shown) - min(shown) or 1.0) / 14
    return min(shown) - (air / 3 if min(shown) < 0 else 0.0), max(shown) + air


def _draw(axes: Axes, scores: list[Score], color: str) -> None:
    first = scores[0]
    if first.ceiling_low is not None and first.ceiling_high is not None:
        axes.axhspan(first.ceiling_low, first.ceiling_high, color=_BAND, linewidth=0, zorder=0)
    places = range(len(scores))
    axes.bar(places, [score.score for score in scores], width=0.72, color=color, zorder=2)
    for place, score in enumerate(scores):
        if score.low is not None and score.high is not None:
            axes.vlines(place, score.low, score.high, color="black", linewidth=0.9, zorder=3)
    axes.axhline(0, color="black", linewidth=0.6, zorder=4)
    axes.set_xlim(-0.6, len(scores) - 0.4)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _name_panel(axes: Axes, reference: str, layout: _Layout) -> None:
    title = shorten(reference, _TITLE_SIZE, layout.panel_width)
    axes.set_title(title, size=_TITLE_SIZE, parse_math=False)


def _name_ceiling(axes: Axes, score: Score) -> None:
    if score.ceiling_high is None:
        return
    axes.annotate(
        "noise ceiling",
        (1, score.ceiling_high),
        (0, 1),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        ha="right",
        va="bottom",
        size=6,
        color=_GREY,
    )


def _name_bars(axes: Axes, layout: _Layout, modules: list[str], *, is_last: bool) -> None:
    per_bar = layout.panel_width / (len(modules) + 0.2)
    step = ceil(height_of("x", _SIZE) / per_bar)
    axes.set_xticks(range(0, len(modules), step))
    axes.tick_params(axis="x", length=0, pad=2)
    if not is_last:
        axes.tick_params(labelbottom=False)
        return
    names = [shorten(name or "(model)", _SIZE, _LONGEST_NAME) for name in modules[::step]]
    options: dict[str, Any] = {"rotation": 90, "parse_math": False}
    axes.set_xticklabels(names, **options)
