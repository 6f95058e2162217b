"""Functions of today's library, with the names that their parameters have in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..calls.signatures import check_arguments
from ..core import rsa
from ..utils import storing

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..arrays import Array, Float64Array
    from ..utils.storing import Features


@check_arguments
def compute_rdm(F: npt.ArrayLike, method: str) -> Float64Array:  # noqa: N803 - the library's own name
    """Return the RDM of features, as `core.rsa.compute_rdm` does.

    Args:
        F: Features, images x units.
        method: `correlation` (1 - Pearson's r), `cosine`, `euclidean` or `gaussian`.

    Returns:
        Images x images, float64, symmetric.

    Raises:
        InvalidRequestError: An unknown method, or features that are not 2-D.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import vision

        features = np.random.default_rng(0).normal(size=(10, 50))
        print(vision.compute_rdm(features, method="correlation").shape)
        ```

    """
    return rsa.compute_rdm(F, method)


@check_arguments
def plot_rdm(
    out_path: str | Path,
    F: npt.ArrayLike,  # noqa: N803
    method: str = "correlation",
    format: str = ".png",  # noqa: A002
    colormap: str = "cividis",
    show_plot: bool = False,
) -> None:
    """Draw the RDM of features, as ranks, into the file `rdm{format}`, as `core.rsa.plot_rdm` does.

    Args:
        out_path: Folder for the file, created if missing.
        F: Features, images x units.
        method: Metric of `compute_rdm`.
        format: Ending of the file: `.png`, `.svg`, `.pdf` or another of matplotlib's.
        colormap: Name of a colormap of matplotlib.
        show_plot: Also show the figure in a window.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InvalidRequestError: An unknown format or colormap, and all that `compute_rdm` rejects.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import vision

        features = np.random.default_rng(0).normal(size=(10, 50))
        vision.plot_rdm("results", features, method="correlation", format=".png")
        ```

    """
    rsa.plot_rdm(out_path, F, method=method, format=format, colormap=colormap, show_plot=show_plot)


def paper_format(file_format: str) -> str:
    """Return a format of files under the name that gives them the endings of the paper's library.

    Today's library calls hdf5 files `features.hdf5`, the paper's `features.h5`.
    """
    return "h5" if file_format in ("hdf5", ".hdf5") else file_format


@check_arguments
def save_features(
    features: Features,
    out_path: str | Path,
    file_format: str,
    n_splits: int = 10,
    *,
    by_image: bool = False,
    names: Sequence[str] | None = None,
) -> None:
    """Write the file `features.{suffix}` (`features.h5` for hdf5), as `storing.save_features` does.

    Args:
        features: An array (or tensor) of images x any shape, or a dict of them by module name.
        out_path: Folder for the file, created if missing.
        file_format: `npy`, `npz`, `hdf5`, `mat`, `txt`, `pt` or `parquet`.
        n_splits: Has no effect.
        by_image: In mat, write a variable per image, named after it.
        names: A name per row, as in `utils.storing.save_features`.

    Raises:
        InvalidRequestError: An unknown format, or features that it can't hold.
        MissingDependencyError: The format needs a package that is not installed.

    Warns:
        UnnamedRowsWarning: Says that rows are only numbered.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import vision

        features = np.random.default_rng(0).normal(size=(10, 50))
        vision.save_features(features, "results", file_format="npy")
        ```

    """
    storing.save_features(
        features, out_path, paper_format(file_format), n_splits, by_image=by_image, names=names
    )


@check_arguments
def store_features(PATH: str | Path, features: Features, file_format: str) -> None:  # noqa: N803
    """Write the file `features.{suffix}` (`features.h5` for hdf5), a variable per image in mat.

    Args:
        PATH: Folder for the file, created if missing.
        features: An array (or tensor) of images x any shape, or a dict of them by module name.
        file_format: `npy`, `npz`, `hdf5`, `mat`, `txt`, `pt` or `parquet`.

    Raises:
        InvalidRequestError: An unknown format, or features that it can't hold.
        MissingDependencyError: The format needs a package that is not installed.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import vision

        features = np.random.default_rng(0).normal(size=(10, 50))
        vision.store_features("results", features, file_format="npy")
        ```

    """
    storing.store_features(PATH, features, paper_format(file_format))


@check_arguments
def split_features(
    PATH: str | Path,  # noqa: N803
    features: Features,
    file_format: str,
    n_splits: int = 10,
) -> None:
    """Write features in exactly `n_splits` pieces, as `utils.storing.split_features` does.

    Args:
        PATH: Folder for the pieces, created if missing.
        features: An array (or tensor) of images x any shape, or a dict of them by module name.
        file_format: `npy`, `npz`, `hdf5`, `mat`, `txt`, `pt` or `parquet`.
        n_splits: Number of pieces, at most the number of images.

    Raises:
        InvalidRequestError: An unknown format, or features that it can't hold.
        MissingDependencyError: The format needs a package that is not installed.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import vision

        features = np.random.default_rng(0).normal(size=(10, 50))
        vision.split_features("results", features, "npy", n_splits=3)
        ```

    """
    storing.split_features(PATH, features, paper_format(file_format), n_splits)


@check_arguments
def merge_features(PATH: str | Path, file_format: str) -> Array | dict[str, Array]:  # noqa: N803
    """Return the features that `split_features` wrote, whole.

    Args:
        PATH: Folder of the pieces.
        file_format: Format of the pieces.

    Returns:
        An array of images x shape, or a dict of them by module name.

    Raises:
        InvalidRequestError: Missing pieces, or pieces of different splits.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import vision

        features = np.random.default_rng(0).normal(size=(10, 50))
        vision.split_features("results", features, "npy", n_splits=3)
        assert np.array_equal(vision.merge_features("results", "npy"), features)
        ```

    """
    return storing.merge_features(PATH, paper_format(file_format))
