"""HDF5: a dataset per module, or a group of pieces.

/features                   an array alone
/{module}                   several; `/`, which would make groups, and `%` are as in URLs,
                            and the attribute `module` has the exact name
/features_01 ...            an array alone, split
/{module}/features_01 ...   several, split
/file_names                 names of the rows, UTF-8, if known
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..files import file_stem
from .base import FEATURES, NUMBERS, Column, FileFormat, Layout, Writer, texts_in
from .hdf5_file import NewFile, h5py_for, new_file
from .pieces import piece_name

_WHAT = "hdf5 files"
_NAMES = "file_names"
_MODULE = "module"
_POSITION = "position"
_PIECE = re.compile(r"features_(\d+)")


def _h5py() -> Any:
    return h5py_for(_WHAT)


class _Datasets:
    """Writes each column's rows into its datasets, one after the other."""

    def __init__(self, file: NewFile, pieces: Sequence[Sequence[Any]]) -> None:
        self._file = file
        self._pieces = [list(of_column) for of_column in pieces]
        self._done = 0

    def write(self, rows: Sequence[Array]) -> None:
        while len(rows[0]):
            start = self._done
            taken = min(len(rows[0]), len(self._pieces[0][0]) - start)
            for of_column, array in zip(self._pieces, rows, strict=True):
                of_column[0][start : start + taken] = array[:taken]
            rows = [array[taken:] for array in rows]
            self._advance(taken)
        self._file.check()

    def _advance(self, taken: int) -> None:
        self._done += taken
        if self._done == len(self._pieces[0][0]):
            self._done = 0
            for of_column in self._pieces:
                of_column.pop(0)


@contextmanager
def _open(path: Path, layout: Layout) -> Iterator[Writer]:
    with _new_file(path, layout) as file:
        datasets = []
        for position, column in enumerate(layout.columns):
            name = column.name if layout.is_alone else file_stem(column.name)
            dataset = file.root.create_dataset(name, layout.shape_of(column), column.dtype)
            if not layout.is_alone:
                _describe(dataset, column, position)
            datasets.append([dataset])
        yield _Datasets(file, datasets)


@contextmanager
def _open_pieces(path: Path, layout: Layout, stops: Sequence[int]) -> Iterator[Writer]:
    sizes = np.diff([0, *stops]).tolist()
    with _new_file(path, layout) as file:
        pieces = []
        for position, column in enumerate(layout.columns):
            parent = (
                file.root if layout.is_alone else file.root.create_group(file_stem(column.name))
            )
            if not layout.is_alone:
                _describe(parent, column, position)
            pieces.append(
                [
                    parent.create_dataset(
                        piece_name(number, len(sizes)), (size, *column.shape), column.dtype
                    )
                    for number, size in enumerate(sizes, 1)
                ]
            )
        yield _Datasets(file, pieces)


@contextmanager
def _new_file(path: Path, layout: Layout) -> Iterator[NewFile]:
    with new_file(path, _WHAT) as file:
        if layout.names is not None:
            text = _h5py().string_dtype("utf-8")
            file.root.create_dataset(_NAMES, data=layout.names, dtype=text)
        yield file


def _describe(entry: Any, column: Column, position: int) -> None:
    entry.attrs[_MODULE] = column.name
    entry.attrs[_POSITION] = position


def _read(path: Path) -> dict[str, Array]:
    with _h5py().File(path, "r") as file:
        if pieces := _pieces(file):
            return {FEATURES: _join(pieces)}
        entries = [(name, entry) for name, entry in file.items() if not _has_texts(entry)]
        # Files of other programs have no positions: HDF5's order is used.
        entries.sort(key=lambda entry: int(entry[1].attrs.get(_POSITION, 0)))
        return {str(entry.attrs.get(_MODULE, name)): _array(entry) for name, entry in entries}


def _texts(path: Path) -> dict[str, list[str]]:
    """Return the lists of texts in a file, and those that are attributes of its arrays."""
    found: dict[str, list[str]] = {}

    def visit(name: str, entry: Any) -> None:
        if _has_texts(entry) and (texts := texts_in(entry.asstr()[()])) is not None:
            found[name] = texts
        for key, value in entry.attrs.items():
            # Several texts: what a single text says is about the array.
            if isinstance(value, np.ndarray) and (texts := texts_in(value)) is not None:
                found[f"{name}.{key}"] = texts

    with _h5py().File(path, "r") as file:
        file.visititems(visit)
    return found


def _has_texts(entry: Any) -> bool:
    return hasattr(entry, "shape") and _h5py().check_string_dtype(entry.dtype) is not None


def _pieces(group: Any) -> list[Any]:
    numbered = {
        int(match[1]): entry
        for name, entry in group.items()
        if (match := _PIECE.fullmatch(name)) and _MODULE not in entry.attrs
    }
    expected = list(range(1, len(numbered) + 1))
    if sorted(numbered) != expected:
        missing = sorted(set(expected) - set(numbered))
        raise ValueError(f"piece {missing[0]} of {group.name} is missing")
    return [numbered[number] for number in expected]


def _join(pieces: Sequence[Any]) -> Array:
    whole = np.empty((sum(map(len, pieces)), *pieces[0].shape[1:]), pieces[0].dtype)
    start = 0
    for piece in pieces:
        piece.read_direct(whole, dest_sel=np.s_[start : start + len(piece)])
        start += len(piece)
    return whole


def _array(entry: Any) -> Array:
    if hasattr(entry, "shape"):
        if not entry.shape:
            raise ValueError(f"{entry.name} is a single value, not an array with a row per image")
        array = np.asarray(entry[()])
        if array.dtype.name not in NUMBERS:
            raise ValueError(f"{entry.name} must be numbers, got the type {array.dtype}")
        return array
    if pieces := _pieces(entry):
        return _join(pieces)
    raise ValueError(f"{entry.name} is a group without features")


HDF5 = FileFormat(
    "hdf5",
    "hdf5",
    holds_several=True,
    opener=_open,
    reader=_read,
    require=_h5py,
    reserved=frozenset({_NAMES}),
    pieces_opener=_open_pieces,
    names_key=_NAMES,
    texts_reader=_texts,
    other_suffixes=("h5",),
)

HDF5_OF_PAPER = replace(HDF5, suffix="h5", other_suffixes=("hdf5",))
"""The same files, with the ending that the paper's library gives them."""
