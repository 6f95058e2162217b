"""Variables in MATLAB's files of version 5, up to 2 GB.

Text goes through scipy. Its writer would copy numbers in memory, so they are written here, column
by column. Layout: "MAT-File Format", MathWorks, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..arrays import Array

_INT8, _INT32, _UINT32, _MATRIX = 1, 5, 6, 14
_LOGICAL = 0x02 << 8

TYPES: dict[str, tuple[int, int]] = {
    "bool": (2, 9 | _LOGICAL),
    "int8": (1, 8),
    "uint8": (2, 9),
    "int16": (3, 10),
    "uint16": (4, 11),
    "int32": (5, 12),
    "uint32": (6, 13),
    "float32": (7, 7),
    "float64": (9, 6),
    "int64": (12, 14),
    "uint64": (13, 15),
}
"""Type of the values in the file and class of the MATLAB matrix, by numpy's name."""

_BLOCK_BYTES = 8 * 1024 * 1024


def write_mat5(
    path: Path, cells: Mapping[str, Sequence[str]], matrices: Iterator[tuple[str, Array]]
) -> None:
    """Write cell arrays of text, n x 1, and matrices, one at a time."""
    import scipy.io

    savemat: Any = scipy.io.savemat  # also takes open files, unlike its types say
    texts = {name: _cell(lines) for name, lines in cells.items()}
    with path.open("xb") as file:
        savemat(file, texts)
        file.seek(0, 2)
        for name, array in matrices:
            _write_matrix(file, name, array)


def _cell(lines: Sequence[str]) -> Array:
    cell = np.empty((len(lines), 1), dtype=object)
    cell[:, 0] = lines
    return cell


def _write_matrix(file: IO[bytes], name: str, array: Array) -> None:
    shape = array.shape if array.ndim > 1 else (array.size, 1)
    value_type, matrix_class = TYPES[array.dtype.name]
    head = (
        _element(_UINT32, struct.pack("<II", matrix_class, 0))
        + _element(_INT32, struct.pack(f"<{len(shape)}i", *shape))
        + _element(_INT8, name.encode("ascii"))
    )
    byte_count = prod(shape) * array.dtype.itemsize
    padding = bytes(-byte_count % 8)
    file.write(struct.pack("<II", _MATRIX, len(head) + 8 + byte_count + len(padding)))
    file.write(head + struct.pack("<II", value_type, byte_count))
    little = array.dtype.newbyteorder("<")
    for block in _blocks(array.reshape(shape).T):
        file.write(np.ascontiguousarray(block, little).data)
    file.write(padding)


def _element(value_type: int, content: bytes) -> bytes:
    return struct.pack("<II", value_type, len(content)) + content + bytes(-len(content) % 8)


def _blocks(array: Array) -> Iterator[Array]:
    """Yield small views that together are the array in C order."""
    row_bytes = array.nbytes // len(array)
    if row_bytes > _BLOCK_BYTES and array.ndim > 1:
        for row in array:
            yield from _blocks(row)
        return
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), step):
        yield array[start : start + step]
