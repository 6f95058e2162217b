"""Files of RDMs, with the names of images that they carry: feature files, tables, rsatoolbox's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import InvalidRequestError
from ..formats import BY_ENDING, FEATURES, FileFormat
from ..labels import Labelled, Labels, labels_in
from ..origins.document import file_sha256
from ..origins.replacing import metadata_of
from .rdm_tables import TABLE_ENDINGS, read_table

_DISSIMILARITIES = "dissimilarities"
_PATTERNS = "pattern_descriptors/"
"""Names in rsatoolbox's HDF5 files."""

_ADVICE = {
    ".nc": "open it with xarray and pass its variables",
    ".xlsx": "read it with pandas.read_excel(path, index_col=0) and pass the table",
    ".xls": "read it with pandas.read_excel(path, index_col=0) and pass the table",
    ".feather": "read it with pandas.read_feather and pass the table",
    ".pkl": "files of pickled objects are not read, since that could run code: load it and pass "
    "the object",
}


def read_rdms(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by their names; a single array has the file's.

    The file is in a format of `save_features`, or a table (csv, tsv). Arrays whose rows are named
    in the file, or in its metadata, are Labelled. Raises InvalidRequestError.
    """
    ending = path.suffix.lower()
    if ending in TABLE_ENDINGS:
        return {path.stem: read_table(path)}
    file_format = BY_ENDING.get(ending)
    if file_format is None:
        advice = f"; {_ADVICE[ending]}" if ending in _ADVICE else ""
        raise InvalidRequestError(
            f"{path} is not a file of RDMs: its ending must be one of "
            f"{', '.join((*BY_ENDING, *TABLE_ENDINGS))}{advice}."
        )
    if file_format.name == "txt":
        found = {path.stem: _read_text(path, file_format)}
    else:
        found = _read_all(path, file_format)
        found = {path.stem: found[FEATURES]} if list(found) == [FEATURES] else found
    told = _names_told(path)
    return {name: _with_told(one, told) for name, one in found.items()} if told else found


def _names_told(path: Path) -> list[str]:
    """Return the names of a file's rows in its metadata; empty if they are not of this file."""
    document = metadata_of(path) or {}
    if "images" not in document and "names" not in document:
        return []
    if document.get("file_sha256") != file_sha256(path):
        return []
    images = [str(one["name"]) for one in document.get("images", [])]
    return [str(name) for name in document.get("names") or images]


def _with_told(one: Any, names: list[str]) -> Any:
    """Return an RDM with the names of its metadata, unless its file names its rows."""
    if isinstance(one, Labelled) or not _is_rdm(one) or len(names) != one.shape[-1]:
        return one
    labels = labels_in("its metadata", names)
    axes = (labels, labels)
    return Labelled(one, axes if one.ndim == 2 else ((), *axes))


def _read_text(path: Path, file_format: FileFormat) -> Any:
    try:
        return file_format.read(path)[FEATURES]
    except InvalidRequestError as error:
        if not path.is_file():
            raise
        try:
            return read_table(path)
        except InvalidRequestError:
            raise error from None


def _read_all(path: Path, file_format: FileFormat) -> dict[str, Any]:
    """Return the RDMs of a file, labelled by its lists of names and of numbers."""
    texts = file_format.read_texts(path)
    if file_format.name == "hdf5" and (rdms := _of_rsatoolbox(path, texts)) is not None:
        return {path.stem: rdms}
    arrays = file_format.read(path)
    if (table := _of_columns(arrays, texts)) is not None:
        return {path.stem: table}
    main = file_format.names_key
    square = [array for array in arrays.values() if _is_rdm(array)]
    lists: dict[str, Any] = (
        {}
        if not square
        else {
            name: array.ravel()
            for name, array in arrays.items()
            if array.ndim <= 2 and array.size == max(array.shape) and not _is_rdm(array)
        }
    )
    counts = {array.shape[-1] for array in square}
    # Numbers beside an RDM that has as many rows are about its images; others are a mistake.
    beside = {name: values for name, values in lists.items() if len(values) in counts}
    labels: dict[str, Sequence[Any]] = {**texts, **beside}
    return {
        name: _label(array, labels, main) for name, array in arrays.items() if name not in beside
    }


def _label(array: Array, lists: Mapping[str, Sequence[Any]], main: str) -> Any:
    if not _is_rdm(array):
        return array
    labels: list[Labels] = []
    for name, values in lists.items():
        if len(values) == array.shape[-1]:
            where = f"{name!r} in its file"
            labels += labels_in(where, values, is_main=name == main)
    axes = (tuple(labels), tuple(labels))
    return Labelled(array, axes if array.ndim == 2 else ((), *axes)) if labels else array


def _is_rdm(array: Array) -> bool:
    return array.ndim in (2, 3) and array.shape[-1] == array.shape[-2] and array.shape[-1] > 1


def _of_columns(arrays: Mapping[str, Array], texts: Mapping[str, Sequence[str]]) -> Any:
    """Return an RDM whose columns are arrays of their own, as pandas writes a table."""
    count = len(next(iter(arrays.values())))
    rows = [names for names in texts.values() if len(names) == count]
    columns = list(arrays)
    if columns[0] in ("__index_level_0__", "Unnamed: 0") and len(columns) == count + 1:
        rows.insert(0, arrays[columns[0]].tolist())
        columns = columns[1:]
    if (
        len(columns) != count
        or count < 3
        or any(arrays[name].shape != (count,) for name in columns)
    ):
        return None
    values = np.stack([arrays[name] for name in columns], axis=1)
    axes = (
        tuple(label for names in rows for label in labels_in("its column of names", names)),
        labels_in("its columns", columns),
    )
    return Labelled(values, axes)


def _of_rsatoolbox(path: Path, texts: Mapping[str, Sequence[str]]) -> Any:
    """Return the RDMs that rsatoolbox's `RDMs.save` wrote; None for another HDF5 file."""
    from scipy.spatial.distance import squareform

    from ..formats.hdf5_file import h5py_for

    with h5py_for("hdf5 files").File(path, "r") as file:
        if _DISSIMILARITIES not in file or _PATTERNS.rstrip("/") not in file:
            return None
        vectors = np.asarray(file[_DISSIMILARITIES][()], dtype=np.float64)
        patterns = {
            name: texts.get(_PATTERNS + name, entry[()].tolist())
            for name, entry in file[_PATTERNS].items()
        }
    labels: list[Labels] = []
    for name, values in patterns.items():
        where = f"its descriptor {name!r}"
        labels += labels_in(where, values, is_main=name in ("index", "image"))
    rdms = np.stack([squareform(one) for one in np.atleast_2d(vectors)])
    return Labelled(rdms, ((), tuple(labels), tuple(labels)))
