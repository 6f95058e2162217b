"""Variables in MATLAB's files of version 7.3, of any size.

Such a file is HDF5 behind a header of 512 bytes. Dimensions are in reverse order, attributes name
MATLAB's classes, and a cell array consists of references to its cells below `#refs#`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from .hdf5_file import NewFile, h5py_for, new_file

_WHAT = "mat files of version 7.3"
_USER_BLOCK_BYTES = 512
_CHUNK_BYTES = 1024 * 1024
_CACHE_BYTES = 16 * 1024 * 1024
_CLASSES = {"float32": "single", "float64": "double", "bool": "logical"}
_REFS = "#refs#"


@contextmanager
def new_mat73(path: Path) -> Iterator[NewFile]:
    """Yield a new file, which MATLAB can open after the block."""
    options = {"userblock_size": _USER_BLOCK_BYTES, "rdcc_nbytes": _CACHE_BYTES}
    with new_file(path, _WHAT, **options) as file:
        yield file
    with path.open("rb+") as opened:
        opened.write(_user_block())


def add_matrix(file: Any, name: str, shape: tuple[int, ...], dtype: str) -> Any:
    """Return a new, empty matrix of rows x any shape (n x 1 for one dimension); see `fill`."""
    full = shape if len(shape) > 1 else (*shape, 1)
    row_bytes = int(np.prod(full[1:])) * np.dtype(dtype).itemsize
    rows = min(full[0], max(1, _CHUNK_BYTES // row_bytes))
    stored = "uint8" if dtype == "bool" else dtype
    matrix = file.create_dataset(name, full[::-1], stored, chunks=(*full[:0:-1], rows))
    matrix.attrs["MATLAB_class"] = np.bytes_(_CLASSES.get(dtype, dtype))
    if dtype == "bool":
        matrix.attrs["MATLAB_int_decode"] = np.int32(1)
    return matrix


def add_columns(file: Any, name: str, dims: tuple[int, ...], dtype: str) -> Any:
    """Return a new, empty array of MATLAB's dimensions, to be written along its last one."""
    row_bytes = int(np.prod(dims[:-1])) * np.dtype(dtype).itemsize
    rows = min(dims[-1], max(1, _CHUNK_BYTES // row_bytes))
    stored = tuple(reversed(dims))
    array = file.create_dataset(name, stored, dtype, chunks=(rows, *stored[1:]))
    array.attrs["MATLAB_class"] = np.bytes_(_CLASSES.get(dtype, dtype))
    return array


def fill(matrix: Any, start: int, rows: Array) -> None:
    """Write rows into a matrix, from row `start` on."""
    flipped = rows.reshape(len(rows), *matrix.shape[-2::-1]).T
    matrix[..., start : start + len(rows)] = flipped


def add_cell(file: Any, name: str, lines: Sequence[str]) -> None:
    """Add a cell array of text, n x 1."""
    h5py = h5py_for(_WHAT)
    refs = file.require_group(_REFS)
    references = np.array([[_text(refs, line).ref for line in lines]], dtype=h5py.ref_dtype)
    cell = file.create_dataset(name, data=references, dtype=h5py.ref_dtype)
    cell.attrs["MATLAB_class"] = np.bytes_("cell")


def add_text(file: Any, name: str, line: str) -> None:
    """Add a text, 1 x its length."""
    _add_text(file, name, line)


def read_mat73(path: Path, wanted: Collection[str] | None = None) -> dict[str, Any]:
    """Return matrices as arrays in MATLAB's order of dimensions, cells as lists of str.

    `wanted` are the names of variables; None: all.
    """
    with h5py_for("mat files of version 7.3").File(path, "r") as file:
        return {
            name: _content(file, entry)
            for name, entry in file.items()
            if name != _REFS and hasattr(entry, "shape") and (wanted is None or name in wanted)
        }


def _text(refs: Any, line: str) -> Any:
    return _add_text(refs, f"text{len(refs)}", line)


def _add_text(group: Any, name: str, line: str) -> Any:
    units = np.frombuffer(line.encode("utf-16-le"), "<u2")
    text = group.create_dataset(
        name, data=units[:, np.newaxis] if len(units) else np.zeros(2, "uint64")
    )
    text.attrs["MATLAB_class"] = np.bytes_("char")
    text.attrs["MATLAB_int_decode"] = np.int32(2)
    if not len(units):
        text.attrs["MATLAB_empty"] = np.uint8(1)
    return text


def _content(file: Any, entry: Any) -> Any:
    kind = entry.attrs.get("MATLAB_class", b"")
    if kind == b"cell":
        return [_line(file[reference]) for reference in entry[()].T.ravel()]
    if kind == b"char":
        return _lines(entry)
    matrix = np.empty(entry.shape[::-1], bool if kind == b"logical" else entry.dtype)
    step = max(1, _CACHE_BYTES // max(1, matrix.nbytes // len(matrix)))
    for start in range(0, len(matrix), step):
        matrix[start : start + step] = entry[..., start : start + step].T
    return matrix


def _lines(matrix: Any) -> list[str]:
    """Return the rows of a matrix of characters, which MATLAB pads with blanks."""
    if matrix.attrs.get("MATLAB_empty"):
        return []
    rows = np.ascontiguousarray(matrix[()].astype("<u2").T)
    return [row.tobytes().decode("utf-16-le").rstrip(" ") for row in rows]


def _line(text: Any) -> str:
    if text.attrs.get("MATLAB_empty"):
        return ""
    return bytes(text[()].astype("<u2").T.ravel().tobytes()).decode("utf-16-le")


def _user_block() -> bytes:
    now = datetime.now().astimezone()
    description = f"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: {now:%a %b %d %H:%M:%S %Y} "
    text = f"{description}HDF5 schema 1.00 .".encode("ascii", "replace").ljust(116)[:116]
    # 8 bytes for the (empty) subsystem data, then version and byte order.
    return (text + bytes(8) + b"\x00\x02IM").ljust(_USER_BLOCK_BYTES, b"\0")
