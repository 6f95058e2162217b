"""MATLAB's files: a variable per module; version 5 below 2 GB, version 7.3 from there on.

    features         a single array, images x ... (MATLAB has at least two dimensions)
    {module}         several; names are made valid as matlab.lang.makeValidName does
    module_names     n x 1 cell array of the modules' exact names, in the variables' order
    file_names       n x 1 cell array of the rows' names, if known

By image, for scripts that expect it: a variable per row, named after its image without the
ending, `file_names` in the same order, and `features_shape`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import InvalidRequestError
from .base import ALONE, FEATURES, FileFormat, Layout, Writer
from .hdf5_file import NewFile
from .mat5 import TYPES, write_mat5
from .mat73 import add_cell, add_matrix, fill, new_mat73, read_mat73
from .matlab_names import variable_names
from .spool import open_spool

VERSION_5_BYTES = 2_000_000_000
"""Files of fewer bytes have version 5, which every MATLAB and scipy can read."""

_ROWS = "file_names"
_MODULES = "module_names"
_SHAPE = "features_shape"
_RESERVED = frozenset({_ROWS, _MODULES, _SHAPE})
_ENDING = re.compile(r"\.[^./]*$")


class _Matrices:
    """Writes rows into the matrices of an open file of version 7.3."""

    def __init__(self, file: NewFile, matrices: Sequence[Any]) -> None:
        self._file = file
        self._matrices = matrices
        self._done = 0

    def write(self, rows: Sequence[Array]) -> None:
        for matrix, array in zip(self._matrices, rows, strict=True):
            fill(matrix, self._done, array)
        self._file.check()
        self._done += len(rows[0])


@contextmanager
def _open(path: Path, layout: Layout) -> Iterator[Writer]:
    opening = _open_5 if layout.byte_count < VERSION_5_BYTES else _open_73
    with opening(path, layout) as writer:
        yield writer


@contextmanager
def _open_5(path: Path, layout: Layout) -> Iterator[Writer]:
    # MATLAB stores the first dimension, the rows, contiguously: writing needs all rows.
    with open_spool(path, layout) as spool:
        yield spool
        write_mat5(path, _cells(layout), zip(_variables(layout), spool.arrays(), strict=True))


@contextmanager
def _open_73(path: Path, layout: Layout) -> Iterator[Writer]:
    with new_mat73(path) as file:
        for name, lines in _cells(layout).items():
            add_cell(file.root, name, lines)
        yield _Matrices(
            file,
            [
                add_matrix(file.root, name, layout.shape_of(column), column.dtype)
                for name, column in zip(_variables(layout), layout.columns, strict=True)
            ],
        )


def _write_by_image(path: Path, array: Array, names: Sequence[str]) -> None:
    """Write a variable per row of an array, named after its image.

    Raises MissingDependencyError for 2 GB or more without h5py.
    """
    matrices = {
        name: row[np.newaxis] if row.ndim == 1 else row
        for name, row in zip(_image_variables(names), array, strict=True)
    }
    matrices[_SHAPE] = np.array([array.shape], dtype=np.float64)
    if array.nbytes < VERSION_5_BYTES:
        write_mat5(path, {_ROWS: names}, iter(matrices.items()))
        return
    with new_mat73(path) as file:
        add_cell(file.root, _ROWS, names)
        for name, matrix in matrices.items():
            fill(add_matrix(file.root, name, matrix.shape, matrix.dtype.name), 0, matrix)


def _cells(layout: Layout) -> dict[str, Sequence[str]]:
    cells: dict[str, Sequence[str]] = {}
    if not layout.is_alone:
        cells[_MODULES] = [column.name for column in layout.columns]
    if layout.names is not None:
        cells[_ROWS] = layout.names
    return cells


def _variables(layout: Layout) -> list[str]:
    return variable_names((column.name for column in layout.columns), _RESERVED)


def _image_variables(names: Sequence[str]) -> list[str]:
    return variable_names((_ENDING.sub("", name) for name in names), _RESERVED)


def _read_texts(path: Path) -> dict[str, list[str]]:
    return {name: value for name, value in _content(path).items() if isinstance(value, list)}


def _read(path: Path) -> dict[str, Array]:
    content = _content(path)
    rows, modules = content.pop(_ROWS, None), content.pop(_MODULES, None)
    shape = content.pop(_SHAPE, None)
    if modules is not None:
        found = zip(modules, variable_names(modules, _RESERVED), strict=True)
        return {name: content[variable] for name, variable in found}
    if rows is not None and shape is not None:
        values = (content[variable].reshape(1, -1) for variable in _image_variables(rows))
        return {FEATURES: np.concatenate(list(values)).reshape(shape.astype(int).ravel())}
    arrays = {name: value for name, value in content.items() if not isinstance(value, list)}
    if len(arrays) == 1 and ALONE.issuperset(arrays):
        return {FEATURES: next(iter(arrays.values()))}
    return arrays


def _content(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError, matfile_version

    try:
        if matfile_version(path)[0] == 2:
            return read_mat73(path)
        content: Mapping[str, Any] = loadmat(path, mat_dtype=True)  # logical as bool
    except MatReadError as error:
        raise InvalidRequestError(f"Can't read {path} as mat: {error}") from error
    return {
        name: _texts(value) if value.dtype.kind in "OU" else value
        for name, value in content.items()
        if not name.startswith("__")
    }


def _texts(cell: Array) -> Array | list[str]:
    """Return the lines of a cell array of texts or of a matrix of characters, else the array."""
    lines = [np.asarray(line) for line in cell.ravel()]
    if any(line.size and line.dtype.kind != "U" for line in lines):
        return cell
    # MATLAB pads the rows of a matrix of characters with blanks.
    is_matrix = cell.dtype.kind == "U"
    texts = ["".join(line.ravel().tolist()) for line in lines]
    return [text.rstrip(" ") for text in texts] if is_matrix else texts


MAT = FileFormat(
    "mat",
    "mat",
    holds_several=True,
    opener=_open,
    reader=_read,
    dtypes=frozenset(TYPES),
    image_writer=_write_by_image,
    names_key=_ROWS,
    texts_reader=_read_texts,
)
