"""Features in files, row by row in flat memory: a module per format, and their table."""

from __future__ import annotations

from ..calls.arguments import choose
from .base import ALONE, FEATURES, Column, FileFormat, Layout, Writer
from .hdf5 import HDF5, HDF5_OF_PAPER
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
    "HDF5_OF_PAPER",
    "Column",
    "FileFormat",
    "Layout",
    "Writer",
    "find_format",
]

FORMATS: dict[str, FileFormat] = {
    file_format.name: file_format for file_format in (NPY, NPZ, HDF5, MAT, TXT, PT, PARQUET)
}
"""Formats of feature files, by name."""

BY_ENDING: dict[str, FileFormat] = {
    f".{one.suffix}": one for one in (*FORMATS.values(), HDF5_OF_PAPER)
}
"""Formats by the ending of files, with its dot."""


def find_format(file_format: str) -> FileFormat:
    """Return a row of FORMATS, by its name or its files' ending. Raises InvalidRequestError."""
    if isinstance(file_format, str) and file_format not in FORMATS:
        bare = file_format.removeprefix(".")  # early versions wrote ".npy"
        if f".{bare}" in BY_ENDING:
            return BY_ENDING[f".{bare}"]
        file_format = bare if bare in FORMATS else file_format
    return FORMATS[choose("file_format", file_format, FORMATS)]
