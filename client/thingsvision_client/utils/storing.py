"""Features to files and back, whole or split: the library's names; knows no server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ..arrays import Array
from ..errors import InvalidRequestError
from ..files import file_stem, replacing
from ..formats import FEATURES, FORMATS, FileFormat, checked_format
from ..formats.whole import layout_of, write_whole
from .writing import as_arrays, names_of, row_names, savable_array, write_features

__all__ = [
    "FORMATS",
    "Features",
    "check_format",
    "file_stem",
    "merge_features",
    "replacing",
    "row_names",
    "save_features",
    "save_targets",
    "slices2tensor",
    "split_features",
    "store_features",
    "tensor2slices",
]

Features: TypeAlias = "Array | Mapping[str, Array]"
"""An array of images x more, or several by module; tensors of PyTorch in their place, too."""

_TARGETS = "targets"


def save_features(
    features: Features,
    out_path: str | Path,
    file_format: str,
    n_splits: int = 10,
    *,
    by_image: bool = False,
) -> None:
    """Write `features.{suffix}` into the folder `out_path`, which is made if need be.

    `features` is an array (or tensor) of images x ..., or a dict of them by module name.
    `file_format` is a name in FORMATS: npy, npz, hdf5 (suffix h5), mat, txt, pt, parquet. npy and
    txt hold one array, txt of two dimensions at most. hdf5, mat and parquet have the names of the
    rows in the file, too: those of the images that were extracted, else the lines of a
    `file_names.txt` in `out_path`, if they are as many. `by_image`: in mat, a variable per image,
    called as it is.

    `n_splits` is there for scripts of the original, which falls back to `split_features` when
    memory runs out; files are written in flat memory here, and never split unasked.

    An existing file is replaced only when the new one is complete. `{file}.json` beside it tells
    where the features came from. Raises InvalidRequestError, MissingDependencyError.
    """
    arrays, folder = as_arrays(features), Path(out_path)
    kind = _format(file_format, len(arrays))
    layout_of(arrays)  # of one length
    names = names_of(folder, arrays)
    path = folder / f"{FEATURES}.{kind.suffix}"
    write_features(path, arrays, kind, names, by_image=by_image)


def store_features(root: str | Path, features: Features, file_format: str) -> None:
    """Write as `save_features` does, but mat with a variable per image, called as it is.

    Raises what `save_features` raises.
    """
    save_features(features, root, file_format, by_image=True)


def save_targets(targets: Array, PATH: str | Path, file_format: str) -> None:  # noqa: N803
    """Write class numbers, images x 1, to `targets.{suffix}` in the folder `PATH`.

    Raises InvalidRequestError, MissingDependencyError.
    """
    kind = _format(file_format, 1)
    arrays = {_TARGETS: savable_array(targets, _TARGETS)}
    write_whole(Path(PATH) / f"{_TARGETS}.{kind.suffix}", arrays, kind)


def split_features(
    root: str | Path | Features,
    features: Features | str | Path,
    file_format: str,
    n_splits: int = 10,
    *,
    by_image: bool = False,
) -> None:
    """Write the rows in exactly `n_splits` pieces, of sizes as by `numpy.array_split`.

    Pieces are files `features_01.{suffix}` ... in the folder `root`, with more digits from 100 on.
    Of several modules each piece holds all, where the format can (npz, mat, pt, parquet); where it
    can't (npy, txt) they are files `{module}/features_01.{suffix}`, `/` and the like in names as
    in URLs. hdf5 has the pieces as datasets in one file, `features_01` or `{module}/features_01`.

    Pieces appear together, when all are complete, and take away those of an earlier split.
    `merge_features` notices pieces that are not of one set. The features may come first and the
    folder second, as in `save_features`. Raises what `save_features` raises.
    """
    from .splitting import stops_of, write_in_one, write_pieces

    folder, arrays = _in_order(root, features)
    kind = _format(file_format, 1)
    stops = stops_of(layout_of(arrays).count, n_splits)
    if kind.opening_pieces is not None:
        write_in_one(folder, arrays, kind, stops)
    else:
        write_pieces(folder, arrays, kind, stops, by_image=by_image)


def merge_features(root: str | Path, file_format: str) -> Array | dict[str, Array]:
    """Return what `split_features` wrote to the folder `root`: an array, or a dict by module.

    Pieces of other programs are read as well, if numbered from 1 without a gap; without pieces
    the file `features.{suffix}` is. Values and shapes are as they were, but txt gives float64,
    and mat n x 1 for one dimension. Raises InvalidRequestError where pieces are missing, or of
    different splits, or where a whole file is newer than they are.
    """
    from ..formats.pieces import find_pieces
    from .splitting import join

    folder, kind = Path(root), _format(file_format, 1)
    whole = folder / f"{FEATURES}.{kind.suffix}"
    pieces = find_pieces(folder, kind.suffix)
    if not pieces and not whole.is_file():
        raise InvalidRequestError(
            f"There are no features to merge in {folder}: neither {FEATURES}_01.{kind.suffix} nor "
            f"{whole.name}."
        )
    if pieces:
        _check_age(whole, folder / pieces[-1].file)
    merged = join(folder, kind, pieces) if pieces else kind.read(whole)
    return merged[FEATURES] if list(merged) == [FEATURES] else merged


def tensor2slices(PATH: str | Path, file_name: str, features: Array) -> None:  # noqa: N803
    """Write an array of three dimensions or more as text to the file `file_name` in `PATH`.

    The first line has its shape; matrices of the last two dimensions follow, a comment behind
    each. There are as many digits as bring back the very values. Raises InvalidRequestError.
    """
    from ..formats.slices import write_slices
    from ..origins import write_origin

    array = savable_array(features, FEATURES)
    if array.ndim < 3:
        raise InvalidRequestError(
            f"tensor2slices takes three dimensions or more, not the shape {array.shape}: "
            "save_features writes a matrix as txt."
        )
    path = Path(PATH) / file_name
    with replacing(path) as file:
        write_slices(file, array)
    write_origin(path, array)


def slices2tensor(PATH: str | Path, file: str) -> Array:  # noqa: N803
    """Return the array that `tensor2slices` wrote: same shape, type and values.

    Files of the original have no type: float64. Raises InvalidRequestError.
    """
    from ..formats.slices import read_slices

    return read_slices(Path(PATH) / file)


def check_format(file_format: str, array_count: int) -> None:
    """Raise InvalidRequestError for a format that is not in FORMATS or can't hold the arrays.

    MissingDependencyError for one that needs a package that is not there.
    """
    kind = _format(file_format, array_count)
    if kind.requiring is not None:
        kind.requiring()


def _format(file_format: str, array_count: int) -> FileFormat:
    kind = checked_format(file_format)
    if array_count != 1 and not kind.holds_several:
        several = [name for name, other in FORMATS.items() if other.holds_several]
        raise InvalidRequestError(
            f"{file_format} holds one array, not {array_count}: use a format that holds several "
            f"({', '.join(several)}), or save one by one."
        )
    return kind


def _in_order(first: Any, second: Any) -> tuple[Path, dict[str, Array]]:
    folder, features = (first, second) if isinstance(first, (str, Path)) else (second, first)
    return Path(folder), as_arrays(features)


def _check_age(whole: Path, last_piece: Path) -> None:
    if whole.is_file() and whole.stat().st_mtime_ns > last_piece.stat().st_mtime_ns:
        raise InvalidRequestError(
            f"{whole} is newer than the pieces beside it: read it itself, or split the features "
            "again."
        )
