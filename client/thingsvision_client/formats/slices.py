"""Arrays of many dimensions as text: their matrices, one below the other.

# Array shape: (2, 3, 4, 5)
# Type: float32
(4 lines of 5 values)
# New slice
...
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from ..arrays import Array
from ..errors import InvalidRequestError
from .base import NUMBERS
from .txt import number_format

_SHAPE = re.compile(r"#[^(]*\((\d+(?:, *\d+)*)\)\s*")
_TYPE = re.compile(r"# Type: (\w+)\s*")


def write_slices(file: IO[bytes], array: Array) -> None:
    """Write the shape and then the matrices of the last two dimensions, with all digits."""
    # The type has its own line: the original library parses all digits of the first as the shape.
    file.write(f"# Array shape: {array.shape}\n# Type: {array.dtype.name}\n".encode())
    for index in np.ndindex(array.shape[:-2]):
        np.savetxt(file, array[index], fmt=number_format(array.dtype.name))
        file.write(b"# New slice\n")


def read_slices(path: Path) -> Array:
    """Return the array; float64 if the file records no type. Raises InvalidRequestError."""
    try:
        with path.open(encoding="utf-8") as file:
            shape = _SHAPE.fullmatch(file.readline())
            type_line = _TYPE.fullmatch(file.readline())
        return _values(path, _as_shape(shape), type_line[1] if type_line else "float64")
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"Can't read slices from {path}: {error}") from error


def _as_shape(match: re.Match[str] | None) -> tuple[int, ...]:
    if match is None:
        raise ValueError("its first line must be a shape, such as '# Array shape: (2, 3, 4, 5)'")
    return tuple(map(int, match[1].split(",")))


def _values(path: Path, shape: tuple[int, ...], dtype: str) -> Array:
    if dtype not in NUMBERS:
        raise ValueError(f"its type must be one of {', '.join(sorted(NUMBERS))}, got {dtype!r}")
    # Integers are read as integers, since floats would lose digits.
    read_as = dtype if "int" in dtype else "float64"
    values: Array = np.loadtxt(path, dtype=read_as, ndmin=2)
    if values.size != prod(shape):
        raise ValueError(f"it must have {prod(shape)} values for shape {shape}, got {values.size}")
    return values.reshape(shape).astype(dtype, copy=False)
