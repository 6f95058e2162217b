"""Features in files, row by row in flat memory: a file per format, one table; knows no server."""

from __future__ import annotations

from ..errors import InvalidRequestError
from .base import ALONE, FEATURES, Column, FileFormat, Layout, Writer
from .hdf5 import HDF5
from .mat import MAT
from .npy import NPY
from .npz import NPZ
from .parquet import PARQUET
from .pt import PT
from .txt import TXT

__all__ = [
    "ALONE",
    "BY_ENDING",
    "FEATURES",
    "FORMATS",
    "Column",
    "FileFormat",
    "Layout",
    "Writer",
    "find_format",
]

FORMATS: dict[str, FileFormat] = {
    file_format.name: file_format for file_format in (NPY, NPZ, HDF5, MAT, TXT, PT, PARQUET)
}
"""What files of features can be, by `file_format`."""

BY_ENDING: dict[str, FileFormat] = {f".{one.suffix}": one for one in FORMATS.values()}
"""The same by the ending of files, with its dot."""


def find_format(file_format: str) -> FileFormat:
    """Return a row of FORMATS. Raises InvalidRequestError."""
    if file_format not in FORMATS:
        valid = ", ".join(FORMATS)
        raise InvalidRequestError(f"There is no file format {file_format!r}; valid: {valid}.")
    return FORMATS[file_format]
