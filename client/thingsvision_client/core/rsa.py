"""Representational similarity analysis of arrays on the user's machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..arrays import Array, Float64Array, as_floats, shape_advice
from ..calls.arguments import as_folder, choose
from ..calls.caller import warn_caller
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError, UndefinedDistanceWarning
from ..figures.canvas import check_colormap, check_format, new_figure, use_style, write_figure
from ..labels import align_rows, keep_rows, known_rows, remember_rows
from ..old_paths import add_old_paths
from .metrics import METRICS, Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

CORRELATIONS = ("pearson", "spearman")

_SIZE_INCHES = (10, 4)
_SIZE_WITH_BAR_INCHES = (5, 4)
_DPI = 200


@check_arguments
def compute_rdm(
    X: npt.ArrayLike,  # noqa: N803 - the library's own name
    method: str = "correlation",
) -> Float64Array:
    """Return the representational dissimilarity matrix (RDM) of features, computed in float64.

    Args:
        X: Features, images x units.
        method: `correlation` (1 - Pearson's r), `cosine`, `euclidean` or `gaussian`.

    Returns:
        Images x images, float64, symmetric, with a diagonal of 0. An image without a defined
        distance (all values equal for `correlation`, all zero for `cosine`, or not finite) has NaN
        in its row and column, diagonal included.

    Raises:
        InvalidRequestError: An unknown method, or features that are not 2-D.

    Warns:
        UndefinedDistanceWarning: Names the rows without a defined distance.

    Example:
        ```python
        from thingsvision_client import Client, compute_rdm

        extraction = Client().extract("torchvision/alexnet", "photos", "features.10", flatten=True)
        rdm = compute_rdm(extraction.features["features.10"], method="correlation")
        print(rdm.shape)
        ```

    """
    method = choose("method", method, METRICS)
    x = as_floats(X, "Features")
    if x.ndim != 2 or 0 in x.shape:
        raise InvalidRequestError(
            f"Features must be images x units for an RDM, got shape {x.shape}: "
            f"{shape_advice(x.shape)}."
        )
    return _remember(X, _among_defined(x, METRICS[method]), method)


def _remember(features: npt.ArrayLike, rdm: Float64Array, method: str) -> Float64Array:
    """Return an RDM, and remember its images, and what computed its features if that is known."""
    known = known_rows(features)
    if known is None or known.origin is None:
        keep_rows(features, rdm)
        return rdm
    images = known.origin["images"][known.start : known.stop]
    remember_rows(rdm, known.names, {**known.origin, "images": images, "metric": method})
    return rdm


def _among_defined(x: Float64Array, metric: Metric) -> Float64Array:
    defined = metric.is_defined(x)
    if defined.all():
        return _symmetric(metric.compare(x))
    warn_caller(
        f"Rows {np.flatnonzero(~defined).tolist()} have no defined distance to others (NaN).",
        UndefinedDistanceWarning,
    )
    rdm = np.full((len(x), len(x)), np.nan)
    if defined.any():
        rdm[np.ix_(defined, defined)] = _symmetric(metric.compare(x[defined]))
    return rdm


def _symmetric(rdm: Float64Array) -> Float64Array:
    upper = np.triu(rdm, k=1)
    return upper + upper.T


@check_arguments
def correlate_rdms(
    rdm_1: npt.ArrayLike, rdm_2: npt.ArrayLike, correlation: str = "pearson"
) -> np.float64:
    """Return the correlation of two RDMs over their pairs of images (the upper triangles).

    Args:
        rdm_1: Images x images: an array, a table of pandas, an array of xarray, or an object of
            rsatoolbox.
        rdm_2: An RDM of the same images. Its rows are matched by name if both RDMs have names;
            otherwise they must be in the same order.
        correlation: `pearson` or `spearman`.

    Returns:
        A float from -1 to 1, which also has `item()`; NaN if an RDM has NaN or no variance.

    Raises:
        InvalidRequestError: An unknown correlation, or RDMs of different sizes or images.

    Warns:
        UserWarning: Says that rows were matched by name, if they were in another order.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import compute_rdm, correlate_rdms

        features = np.random.default_rng(0).normal(size=(2, 10, 50))
        rdm_1, rdm_2 = map(compute_rdm, features)
        print(correlate_rdms(rdm_1, rdm_2, correlation="spearman"))
        ```

    """
    check_correlation(correlation)
    first, second = map(_square, align_rows(rdm_1, rdm_2, axes=2, what="the RDMs"))
    if first.shape != second.shape:
        raise InvalidRequestError(
            f"RDMs must have the same number of images, got {len(first)} and {len(second)}."
        )
    upper = np.triu_indices(len(first), k=1)
    return correlate(first[upper], second[upper], correlation)


def check_correlation(correlation: str) -> None:
    """Raise InvalidRequestError for a name that is not in CORRELATIONS."""
    choose("correlation", correlation, CORRELATIONS)


def correlate(
    first: Float64Array, second: Float64Array, correlation: str = "pearson"
) -> np.float64:
    """Return Pearson's or Spearman's correlation of two equally long lists of dissimilarities.

    NaN if a list has NaN or no variance. Raises InvalidRequestError.
    """
    check_correlation(correlation)
    if correlation == "spearman":
        first, second = _ranks(first), _ranks(second)
    first, second = first - first.mean(), second - second.mean()
    with np.errstate(invalid="ignore"):
        scale = np.linalg.norm(first) * np.linalg.norm(second)
        return np.float64(np.clip(np.dot(first, second) / scale, -1.0, 1.0))


@check_arguments
def plot_rdm(
    out_path: str | Path,
    X: npt.ArrayLike,  # noqa: N803 - the library's own name
    method: str = "correlation",
    format: str = ".png",  # noqa: A002 - the library's own name
    colormap: str = "cividis",
    show_plot: bool = False,
    *,
    title: str | None = None,
    color_bar: bool = False,
) -> None:
    """Draw the RDM of features, as ranks, into the file `rdm{format}`.

    The figure looks as the library's; `plot_rdms` draws RDMs with pictures of the images.
    `rdm{format}.json` records what was drawn. A figure of other features is replaced, with a
    warning.

    Args:
        out_path: Folder for the file, created if missing.
        X: Features, images x units.
        method: Metric of `compute_rdm`.
        format: Ending of the file: `.png`, `.svg`, `.pdf` or another of matplotlib's.
        colormap: Name of a colormap of matplotlib.
        show_plot: Also show the figure in a window.
        title: Title above the RDM.
        color_bar: Draw a colour bar from similar to dissimilar pairs.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InvalidRequestError: An unknown format or colormap, and all that `compute_rdm` rejects.

    Example:
        ```python
        from thingsvision_client import Client, plot_rdm

        extraction = Client().extract("torchvision/alexnet", "photos", "features.10", flatten=True)
        features = extraction.features["features.10"]
        plot_rdm("results", features, format=".svg", title="AlexNet", color_bar=True)
        ```

    """
    from ..origins.document import write_document
    from ..origins.figures import describe_features
    from ..origins.replacing import warn_of_replaced

    path, rdm = as_folder("out_path", out_path) / f"rdm{format}", compute_rdm(X, method)
    with warn_of_replaced(path):
        _draw_rdm(path, rdm, colormap, show_plot, title=title, color_bar=color_bar)
        write_document(path, describe_features(X, rdm, method=method, colormap=colormap))


def _draw_rdm(
    path: Path,
    rdm: Float64Array,
    colormap: str,
    show_plot: bool,
    *,
    title: str | None,
    color_bar: bool,
) -> None:
    """Draw the ranks of an RDM into a file: 10 x 4 inches (5 x 4 with a bar), 200 dpi, no ticks.

    Raises MissingDependencyError without matplotlib, InvalidRequestError for an unknown format or
    colormap.
    """
    with use_style():
        check_format(path)
        check_colormap(colormap)
        size = _SIZE_WITH_BAR_INCHES if color_bar else _SIZE_INCHES
        figure = _shown(size) if show_plot else new_figure(*size, _DPI)
        axes = figure.add_subplot()
        image = axes.imshow(_ranks(rdm).reshape(rdm.shape), cmap=colormap)
        axes.set_xticks([])
        axes.set_yticks([])
        if title is not None:
            axes.set_title(title)
        if color_bar:
            _add_color_bar(figure, image)
        figure.tight_layout()
        write_figure(figure, path)
        if show_plot:
            _show(figure)


def _add_color_bar(figure: Figure, image: AxesImage) -> None:
    """Add a bar of the ranks: their order is all that the colours say."""
    low, high = image.get_clim()
    bar = figure.colorbar(image, ax=image.axes, label="dissimilarity (rank)")
    bar.set_ticks([low, high], labels=["lowest", "highest"])


def _shown(size_inches: tuple[float, float]) -> Figure:
    """Return a figure for a window: only that needs pyplot and a display."""
    from matplotlib import pyplot

    figure: Figure = pyplot.figure(figsize=size_inches, dpi=_DPI)
    return figure


def _show(figure: Figure) -> None:
    from matplotlib import pyplot

    pyplot.show()
    pyplot.close(figure)


def _ranks(values: Float64Array) -> Float64Array:
    from scipy.stats import rankdata

    ranks: Float64Array = rankdata(values, nan_policy="omit")
    return ranks


def _square(rdm: Array) -> Float64Array:
    values = as_floats(rdm, "An RDM")
    if values.ndim == 3 and len(values) == 1:  # of one subject, as rsatoolbox has it
        values = values[0]
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 3:
        raise InvalidRequestError(
            f"An RDM must be square, of at least 3 images, got shape {values.shape}."
        )
    return values


add_old_paths(__name__)
