"""Features in files, row by row in flat memory: a file per format, one table; knows no server."""

from __future__ import annotations

from .base import ALONE, FEATURES, Array, Column, FileFormat, Layout, Writer
from .hdf5 import HDF5
from .mat import MAT
from .npy import NPY
from .npz import NPZ
from .parquet import PARQUET
from .pt import PT
from .txt import TXT

__all__ = ["ALONE", "FEATURES", "FORMATS", "Array", "Column", "FileFormat", "Layout", "Writer"]

FORMATS: dict[str, FileFormat] = {
    file_format.name: file_format for file_format in (NPY, NPZ, HDF5, MAT, TXT, PT, PARQUET)
}
"""What files of features can be, by `file_format`."""
