"""Features to files and back, whole or split, under the library's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..arrays import Array
from ..calls.arguments import as_folder, as_path
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..files import atomic_file, file_stem
from ..formats import FEATURES, FORMATS, HDF5_OF_PAPER, FileFormat, find_format
from ..formats.whole import layout_of, write_whole
from ..labels import row_names
from ..old_paths import add_old_paths
from .row_naming import name_rows, saved_names
from .slices import slices2tensor, tensor2slices
from .writing import as_arrays, savable_array, write_features

__all__ = [
    "FORMATS",
    "Features",
    "check_format",
    "file_stem",
    "merge_features",
    "atomic_file",
    "save_features",
    "save_targets",
    "slices2tensor",
    "split_features",
    "store_features",
    "tensor2slices",
]

Features: TypeAlias = "Array | Mapping[str, Array]"
"""An array (or tensor) of images x any shape, or several by module name."""

_TARGETS = "targets"


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
    """Write features to the file `features.{suffix}`, with their provenance beside it.

    The file is replaced only when the new one is complete. `features.{suffix}.json` records where
    features of an extractor came from. hdf5, mat and parquet also store the names of the rows.
    The names are known for arrays as they were extracted, rows in order of them, and what
    `center_features`, `normalize_features`, `merge_features`, flattening and pickling make of them;
    tables of pandas and arrays of xarray bring their own. Other rows are called `row_000000`,
    `row_000001` and so on, unless `names` are given.

    Args:
        features: An array (or tensor) of images x any shape, or a dict of them by module name.
        out_path: Folder for the file, created if missing.
        file_format: `npy`, `npz`, `hdf5`, `mat`, `txt`, `pt` or `parquet`. npy and txt
            hold a single array, txt of at most two dimensions.
        n_splits: Has no effect: the library splits files when memory runs out, this client writes
            in flat memory.
        by_image: In mat, write a variable per image, named after it.
        names: A name per row. In formats that can't hold them, they are in the metadata.

    Raises:
        InvalidRequestError: An unknown format, or features that it can't hold.
        MissingDependencyError: The format needs a package that is not installed.

    Warns:
        UnnamedRowsWarning: Says that rows are only numbered.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, save_features

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("images", "results", extractor.get_backend(), batch_size=32)
        features = extractor.extract_features(batches, "features.10")
        save_features(features, "results", file_format="hdf5")
        ```

    """
    arrays, folder = as_arrays(features), as_folder("out_path", out_path)
    kind = _format(file_format, len(arrays))
    layout_of(arrays)  # raises for different lengths
    path = folder / f"{FEATURES}.{kind.suffix}"
    named = name_rows(features, arrays, path, kind, given=names)
    write_features(path, arrays, kind, named, by_image=by_image)


@check_arguments
def store_features(
    root: str | Path,
    features: Features,
    file_format: str,
    *,
    names: Sequence[str] | None = None,
) -> None:
    """Write features as `save_features` does; in mat, with a variable per image, named after it.

    Args:
        root: Folder for the file, created if missing.
        features: An array (or tensor) of images x any shape, or a dict of them by module name.
        file_format: `npy`, `npz`, `hdf5`, `mat`, `txt`, `pt` or `parquet`.
        names: A name per row, as in `save_features`.

    Raises:
        InvalidRequestError: An unknown format, or features that it can't hold.
        MissingDependencyError: The format needs a package that is not installed.

    Warns:
        UnnamedRowsWarning: Says that rows are only numbered.

    Example:
        ```python
        from thingsvision_client import Client
        from thingsvision_client.utils.storing import store_features

        extraction = Client().extract("torchvision/alexnet", "photos", "classifier.5")
        store_features("results", extraction.features["classifier.5"], file_format="mat")
        ```

    """
    save_features(features, root, file_format, by_image=True, names=names)


@check_arguments
def save_targets(targets: Array, PATH: str | Path, file_format: str) -> None:  # noqa: N803
    """Write class numbers to the file `targets.{suffix}` (`targets.h5` for hdf5).

    Args:
        targets: Class numbers, images x 1.
        PATH: Folder for the file, created if missing.
        file_format: `npy`, `npz`, `hdf5`, `mat`, `txt`, `pt` or `parquet`.

    Raises:
        InvalidRequestError: An unknown format, or values that it can't hold.
        MissingDependencyError: The format needs a package that is not installed.

    Example:
        ```python
        from thingsvision_client import ImageDataset
        from thingsvision_client.utils.storing import save_targets

        dataset = ImageDataset("images", "results", "pt")
        save_targets(dataset.targets, "results", file_format="npy")
        ```

    """
    from ..origins import write_origin
    from ..origins.replacing import warn_of_replaced

    kind = _format(file_format, 1)
    if kind.name == HDF5_OF_PAPER.name:  # only the paper's library has targets
        kind = HDF5_OF_PAPER
    arrays = {_TARGETS: savable_array(targets, _TARGETS)}
    path = as_folder("PATH", PATH) / f"{_TARGETS}.{kind.suffix}"
    with warn_of_replaced(path):
        write_whole(path, arrays, kind)
        write_origin(path, arrays, row_names(targets))


@check_arguments
def split_features(
    root: str | Path | Features,
    features: Features | str | Path,
    file_format: str,
    n_splits: int = 10,
    *,
    by_image: bool = False,
    names: Sequence[str] | None = None,
) -> None:
    """Write features in exactly `n_splits` pieces, which `merge_features` puts together again.

    Sizes of pieces are those of `numpy.array_split`. Pieces are files `features_01.{suffix}`,
    `features_02.{suffix}` and so on (more digits from 100 on). Of several modules, each piece
    holds all if the format can (npz, mat, pt, parquet); otherwise (npy, txt) each module has its
    own folder, `{module}/features_01.{suffix}`, with `/` and the like as in URLs. hdf5 has the
    pieces as datasets of one file. All pieces appear together, once they are complete, and replace
    those of an earlier split.

    Args:
        root: Folder for the pieces, created if missing.
        features: An array (or tensor) of images x any shape, or a dict of them by module name. May
            be given before the folder, as in `save_features`.
        file_format: `npy`, `npz`, `hdf5`, `mat`, `txt`, `pt` or `parquet`.
        n_splits: Number of pieces, at most the number of images.
        by_image: In mat, write a variable per image, named after it.
        names: A name per row, as in `save_features`.

    Raises:
        InvalidRequestError: An unknown format, features that it can't hold, or too many pieces.
        MissingDependencyError: The format needs a package that is not installed.

    Warns:
        UnnamedRowsWarning: Says that rows are only numbered.

    Example:
        ```python
        from thingsvision_client import Client, merge_features, split_features

        extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
        split_features("results", extraction.features["features.10"], "npy", n_splits=3)
        print(merge_features("results", "npy").shape)
        ```

    """
    from .splitting import stops_of, write_in_one, write_pieces

    folder, given = _in_order(root, features)
    arrays = as_arrays(given)
    kind = _format(file_format, 1)
    stops = stops_of(layout_of(arrays).count, n_splits)
    path = folder / f"{FEATURES}.{kind.suffix}"
    named = name_rows(given, arrays, path, kind, given=names)
    if kind.pieces_opener is not None:
        write_in_one(folder, arrays, kind, stops, names=named)
    else:
        write_pieces(folder, arrays, kind, stops, names=named, by_image=by_image)


@check_arguments
def merge_features(root: str | Path, file_format: str) -> Array | dict[str, Array]:
    """Return the features that `split_features` wrote, whole.

    Pieces written by other programs are read too, if they are numbered from 1 without a gap.
    Without pieces, the file `features.{suffix}` is read.

    Args:
        root: Folder of the pieces.
        file_format: Format of the pieces.

    Returns:
        An array of images x shape, or a dict of them by module name. Values and shapes are those
        that were split, but txt gives float64, and mat gives n x 1 for one dimension.

    Raises:
        InvalidRequestError: Missing pieces, pieces of different splits, or a whole file that is
            newer than the pieces.

    Example:
        ```python
        import numpy as np
        from thingsvision_client import merge_features, split_features

        features = np.random.default_rng(0).normal(size=(10, 50))
        split_features("results", features, "npy", n_splits=3)
        assert np.array_equal(merge_features("results", "npy"), features)
        ```

    """
    from ..formats.pieces import find_pieces
    from .splitting import join

    folder, kind = as_path("root", root), _format(file_format, 1)
    whole = kind.find_file(folder, FEATURES)
    pieces = find_pieces(folder, kind.suffix)
    if not pieces and not whole.is_file():
        raise InvalidRequestError(
            f"There are no features to merge in {folder}: neither {FEATURES}_01.{kind.suffix} nor "
            f"{whole.name} exists."
        )
    if pieces:
        _check_age(whole, folder / pieces[-1].file)
    merged = join(folder, kind, pieces) if pieces else read_features(whole, kind)
    return merged[FEATURES] if list(merged) == [FEATURES] else merged


def read_features(path: Path, file_format: FileFormat) -> dict[str, Array]:
    """Return the arrays of a file by name, with the names and the origin of their rows."""
    from ..origins.restoring import restore_origins
    from .splitting import remember_names

    arrays, names = file_format.read(path), saved_names(path, file_format)
    for array in arrays.values():
        remember_names(array, names)
    restore_origins(path, arrays)
    return arrays


def check_format(file_format: str, array_count: int) -> None:
    """Raise InvalidRequestError for a format that is not in FORMATS or can't hold that many arrays.

    MissingDependencyError if it needs a package that is not installed.
    """
    kind = _format(file_format, array_count)
    if kind.require is not None:
        kind.require()


def _format(file_format: str, array_count: int) -> FileFormat:
    kind = find_format(file_format)
    if array_count != 1 and not kind.holds_several:
        several = [name for name, other in FORMATS.items() if other.holds_several]
        raise InvalidRequestError(
            f"{file_format} holds one array, got {array_count}: use a format that holds several "
            f"({', '.join(several)}), or save them one by one."
        )
    return kind


def _in_order(first: Any, second: Any) -> tuple[Path, Any]:
    folder, features = (first, second) if isinstance(first, (str, Path)) else (second, first)
    return as_folder("root", folder), features


def _check_age(whole: Path, last_piece: Path) -> None:
    if whole.is_file() and whole.stat().st_mtime_ns > last_piece.stat().st_mtime_ns:
        raise InvalidRequestError(
            f"{whole} is newer than the pieces beside it: read that file, or split the features "
            "again."
        )


add_old_paths(__name__)
