"""Functions of today's library whose parameters had other names in the paper's time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..core import rsa
from ..utils import storing

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..arrays import Array, Float64Array
    from ..utils.storing import Features


def compute_rdm(F: npt.ArrayLike, method: str) -> Float64Array:  # noqa: N803 - the library's own name
    """Return the RDM of images x units, see `core.rsa.compute_rdm`."""
    return rsa.compute_rdm(F, method)


def plot_rdm(
    out_path: str | Path,
    F: npt.ArrayLike,  # noqa: N803
    method: str = "correlation",
    format: str = ".png",  # noqa: A002
    colormap: str = "cividis",
    show_plot: bool = False,
) -> None:
    """Draw the RDM of images x units to `rdm{format}` in `out_path`, see `core.rsa.plot_rdm`."""
    rsa.plot_rdm(out_path, F, method, format, colormap, show_plot)


def store_features(PATH: str | Path, features: Features, file_format: str) -> None:  # noqa: N803
    """Write `features.{suffix}` to the folder `PATH`, see `utils.storing.store_features`."""
    storing.store_features(PATH, features, file_format)


def split_features(
    PATH: str | Path,  # noqa: N803
    features: Features,
    file_format: str,
    n_splits: int = 10,
) -> None:
    """Write exactly `n_splits` pieces to the folder `PATH`, see `utils.storing.split_features`."""
    storing.split_features(PATH, features, file_format, n_splits)


def merge_features(PATH: str | Path, file_format: str) -> Array | dict[str, Array]:  # noqa: N803
    """Return what `split_features` wrote, whole, see `utils.storing.merge_features`."""
    return storing.merge_features(PATH, file_format)
