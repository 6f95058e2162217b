"""Several RDMs side by side, with names, categories and pictures of the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Float64Array
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..origins.document import write_document
from ..origins.figures import describe_rdms
from ..origins.memory import origin_of
from ..origins.replacing import check_free
from .canvas import check_colormap, check_format, use_style, write_figure
from .categories import FOLDERS, Run, category_labels, order_by_category, runs_of
from .grid_drawing import Grid, Panel, draw_grid
from .grid_layout import GridContent, grid_layout
from .panel_values import PanelValues, read_panels
from .thumbnails import thumbnail_files

if TYPE_CHECKING:
    from ..rpc.rdms import RDMs


UNITS = {
    "correlation": "dissimilarity (1 − Pearson's r)",
    "cosine": "dissimilarity (1 − cosine)",
    "euclidean": "Euclidean distance",
    "gaussian": "dissimilarity (1 − Gaussian kernel)",
}
"""Label of the colour bar, by metric."""

_UNKNOWN = "dissimilarity"
_PERCENTILES = "dissimilarity (percentile)"
_MOST_NAMES = 40


@check_arguments
def plot_rdms(
    path: str | Path,
    rdms: RDMs | Mapping[str, Any],
    *,
    images: Sequence[str] | None = None,
    thumbnails: str | Path | Sequence[str | Path] | None = None,
    categories: str | Sequence[str] | None = FOLDERS,
    sort_by_category: bool = False,
    scale: str | None = None,
    units: str | None = None,
    columns: int | None = None,
    colormap: str = "cividis",
    width_inches: float = 7.2,
    overwrite: bool = False,
    sources: Mapping[str, Any] | None = None,
) -> None:
    """Draw a grid of RDMs into a file, which has the same bytes each time.

    The JSON file beside it records what was drawn. Pairs without a distance are light grey. Without
    categories and pictures, up to 40 images are named beside the rows.

    Args:
        path: The file; its ending (`.png`, `.svg`, `.pdf`) chooses the format.
        rdms: What `Client.rdm` returned, for a panel per module; or a mapping from titles to RDMs
            (images x images; arrays, tables of pandas, arrays of xarray, objects of rsatoolbox) or
            to what `Client.rdm` returned, for models side by side.
        images: Names of the rows, if `rdms` does not have them, and they are not known, as they
            are of what `compute_rdm` returned. RDMs that carry names are put in this order, or in
            the order of the first.
        thumbnails: Pictures for the axes: a folder that has the rows' names as files, or a file
            per row.
        categories: A label per row, or `folders` for the names of the images' folders; None for no
            categories. Lines separate categories, and their names stand beside the rows.
        sort_by_category: Put the rows of a category together, instead of keeping their order.
        scale: Of the colours: `shared` by all panels, `own` for each panel (the default for
            Euclidean distances), or `ranks` (percentiles of each panel's pairs).
        units: What the values are; by default as their metric says.
        columns: Panels in a row; chosen by their number if None.
        colormap: Name of a colormap of matplotlib.
        width_inches: Largest width of the figure.
        overwrite: Replace a figure of something else; otherwise it is an error.
        sources: What is known of each RDM, by title, in values that JSON can hold, for the JSON
            file; what `Client.rdm` returned brings its own.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InvalidRequestError: Arrays that are not RDMs, or names, labels, thumbnails or options that
            don't fit them.
        ImageError: A thumbnail that can't be read.

    Example:
        ```python
        from thingsvision_client import Client, plot_rdms

        rdms = Client().rdm("torchvision/alexnet", "images", ["features.3", "features.10"])
        plot_rdms("results/rdms.svg", rdms, thumbnails="images", sort_by_category=True)
        ```

    """
    with use_style():
        check_format(Path(path))
        check_colormap(colormap)
        rows = _Rows.read(rdms, images, thumbnails, categories)
        if sort_by_category:
            rows.sort()
        scale = scale or ("own" if rows.shown.metric == "euclidean" else "shared")
        grid = rows.grid(scale, _units(units, rows.shown.metric, scale), colormap)
        layout = grid_layout(rows.content(grid, scale), width_inches, columns)
        look = {"scale": scale, "units": grid.units, "colormap": colormap}
        document = rows.describe(_sources(rdms, sources), look)
        check_free(Path(path), document, overwrite=overwrite)
        write_figure(draw_grid(grid, layout, Path(path)), Path(path))
        write_document(Path(path), document)


@dataclass
class _Rows:
    """The RDMs of a figure, and what is known of their rows: names, labels, pictures, order."""

    shown: PanelValues
    labels: list[str] | None
    files: list[Path] | None
    order: list[int]

    @classmethod
    def read(cls, rdms: Any, images: Any, thumbnails: Any, categories: Any) -> _Rows:
        """Read what a figure is of. Raises InvalidRequestError."""
        shown = read_panels(rdms, images)
        count = len(next(iter(shown.values.values())))
        labels = category_labels(categories, shown.names, count)
        files = None if thumbnails is None else thumbnail_files(thumbnails, shown.names, count)
        return cls(shown, labels, files, list(range(count)))

    def sort(self) -> None:
        """Put the rows of a category together, if there are categories."""
        if self.labels is not None:
            self.order = order_by_category(self.labels)

    def grid(self, scale: str, units: str, colormap: str) -> Grid:
        """Return what is drawn."""
        place = np.ix_(self.order, self.order)
        return Grid(
            panels=_panels({title: one[place] for title, one in self.shown.values.items()}, scale),
            runs=self._runs(),
            has_categories=self.labels is not None,
            pictures=None if self.files is None else [self.files[row] for row in self.order],
            units=units,
            colormap=colormap,
        )

    def content(self, grid: Grid, scale: str) -> GridContent:
        """Return what needs a place in the figure."""
        return GridContent(
            panel_count=len(grid.panels),
            image_count=len(self.order),
            runs=grid.runs,
            has_brackets=grid.has_categories,
            has_pictures=self.files is not None,
            bar_per_panel=scale == "own",
        )

    def describe(self, provenance: Mapping[str, Any], look: Mapping[str, str]) -> dict[str, Any]:
        """Return what the file beside the figure says."""
        return describe_rdms(
            self.shown.values,
            names=self.shown.names,
            provenance=provenance,
            order=self.order,
            categories=self.labels,
            **look,
        )

    def _runs(self) -> list[Run]:
        """Return the rows to name: runs of a category, or each row alone."""
        names, order = self.shown.names, self.order
        if self.labels is not None:
            return runs_of([self.labels[row] for row in order])
        if names is None or self.files is not None or len(names) > _MOST_NAMES:
            return []
        return [Run(PurePath(names[row]).stem, place, place + 1) for place, row in enumerate(order)]


_OF_ROWS = ("images", "rows", "servers", "skipped")


def _sources(rdms: Any, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is known of RDMs by title, in values that JSON can hold."""
    found: dict[str, Any] = dict(given or {})
    named = rdms if isinstance(rdms, Mapping) else {"rdms": rdms}
    for title, one in named.items():
        provenance = getattr(one, "provenance", None)
        if provenance is not None:
            modules = {"module": next(iter(one.rdms))} if len(one.rdms) == 1 else {}
            found.setdefault(title, {"metric": one.metric, **modules, **provenance.to_dict()})
        elif isinstance(one, np.ndarray) and (origin := origin_of(one)) is not None:
            facts = {key: value for key, value in origin.items() if key not in _OF_ROWS}
            found.setdefault(title, facts)
    return {"sources": found} if found else {}


def _units(units: str | None, metric: str | None, scale: str) -> str:
    if units is not None:
        return units
    return _PERCENTILES if scale == "ranks" else UNITS.get(metric or "", _UNKNOWN)


def _panels(values: dict[str, Float64Array], scale: str) -> list[Panel]:
    if scale not in _SCALES:
        raise InvalidRequestError(f"`scale` must be one of {', '.join(_SCALES)}, got {scale!r}.")
    return _SCALES[scale](values)


def _with_shared_scale(values: dict[str, Float64Array]) -> list[Panel]:
    low, high = _limits(list(values.values()))
    return [Panel(title, one, low, high) for title, one in values.items()]


def _with_own_scales(values: dict[str, Float64Array]) -> list[Panel]:
    return [Panel(title, one, *_limits([one])) for title, one in values.items()]


def _with_ranks(values: dict[str, Float64Array]) -> list[Panel]:
    return [Panel(title, _percentiles(one), 0.0, 100.0) for title, one in values.items()]


_SCALES: dict[str, Callable[[dict[str, Float64Array]], list[Panel]]] = {
    "shared": _with_shared_scale,
    "own": _with_own_scales,
    "ranks": _with_ranks,
}


def _limits(rdms: list[Float64Array]) -> tuple[float, float]:
    """Return the smallest and largest value off the diagonals, for the most contrast."""
    off_diagonal = [one[np.triu_indices(len(one), k=1)] for one in rdms]
    values = np.concatenate(off_diagonal)
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def _percentiles(rdm: Float64Array) -> Float64Array:
    """Return the percentile of each pair among all pairs above the diagonal."""
    from scipy.stats import rankdata

    upper = np.triu_indices(len(rdm), k=1)
    ranks = rankdata(rdm[upper], nan_policy="omit")
    found = np.zeros_like(rdm)
    found[upper] = 100 * (ranks - 1) / max(1, np.isfinite(ranks).sum() - 1)
    return found + found.T
