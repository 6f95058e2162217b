"""numpy's archive: an array per module, under the module's exact name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..arrays import Array
from .base import FileFormat, Layout, Writer, texts_in
from .npy import write_header
from .spool import Spool, open_spool

_PART_BYTES = 16 * 1024 * 1024


@contextmanager
def _open(path: Path, layout: Layout) -> Iterator[Writer]:
    # An archive has one member after the other, but rows of all members arrive together.
    with open_spool(path, layout) as spool:
        yield spool
        _write(path, layout, spool)


def _write(path: Path, layout: Layout, spool: Spool) -> None:
    # numpy's own writer takes names as keywords, but already has a parameter `file`.
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        for column, array in zip(layout.columns, spool.arrays(), strict=True):
            with archive.open(f"{column.name}.npy", "w", force_zip64=True) as entry:
                write_header(entry, layout, column)
                values = array.reshape(-1).view(np.uint8)
                for start in range(0, len(values), _PART_BYTES):
                    entry.write(values[start : start + _PART_BYTES].data)


def _read(path: Path) -> dict[str, Array]:
    return {name: array for name, array in _arrays(path).items() if array.dtype.kind not in "SU"}


def _texts(path: Path) -> dict[str, list[str]]:
    found = {name: texts_in(array) for name, array in _arrays(path).items()}
    return {name: texts for name, texts in found.items() if texts is not None}


def _arrays(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array, not an archive of arrays")  # noqa: TRY004
        return {name: _array(archive, name) for name in archive}


def _array(archive: np.lib.npyio.NpzFile, name: str) -> Array:
    try:
        array: Array = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ValueError(
            f"{name!r} has Python objects, which are not read, since that could run code: save "
            f"texts with np.array({name}, dtype=str), and numbers as float64"
        ) from error
    return array


NPZ = FileFormat("npz", "npz", holds_several=True, opener=_open, reader=_read, texts_reader=_texts)
