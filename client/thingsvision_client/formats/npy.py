"""numpy's own format: one array, preceded by a header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ..arrays import Array
from .base import FEATURES, Column, FileFormat, Layout, Writer


class RowFile:
    """Appends the rows of one column to a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, rows: Sequence[Array]) -> None:
        """Append rows in C order."""
        self._file.write(rows[0].data)


def write_header(file: IO[bytes], layout: Layout, column: Column) -> None:
    """Write the header that numpy expects before the values of a column."""
    dtype = np.dtype(column.dtype)
    facts = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": layout.shape_of(column),
    }
    np.lib.format.write_array_header_1_0(file, facts)


@contextmanager
def _open(path: Path, layout: Layout) -> Iterator[Writer]:
    with path.open("xb") as file:
        write_header(file, layout, layout.columns[0])
        yield RowFile(file)


def _read(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:
        return {FEATURES: np.lib.format.read_array(file, allow_pickle=False)}


NPY = FileFormat("npy", "npy", holds_several=False, opener=_open, reader=_read)
