"""Text as numpy's `savetxt` writes it: a line per row, without types or names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ..arrays import Array
from .base import FEATURES, FileFormat, Layout, Writer

_DIGITS = {"float16": "%.5g", "float32": "%.9g", "float64": "%.17g"}
"""Formats with enough digits to read the exact value back, by type."""


def number_format(dtype: str) -> str:
    """Return how to print values of a type so that they are read back exactly."""
    return _DIGITS.get(dtype, "%d")


class _LineFile:
    def __init__(self, file: IO[bytes], dtype: str) -> None:
        self._file = file
        self._format = number_format(dtype)

    def write(self, rows: Sequence[Array]) -> None:
        np.savetxt(self._file, rows[0], fmt=self._format)


@contextmanager
def _open(path: Path, layout: Layout) -> Iterator[Writer]:
    with path.open("xb") as file:
        yield _LineFile(file, layout.columns[0].dtype)


def _read(path: Path) -> dict[str, Array]:
    return {FEATURES: np.loadtxt(path, ndmin=2)}


TXT = FileFormat(
    "txt",
    "txt",
    holds_several=False,
    opener=_open,
    reader=_read,
    max_dims=2,
    beyond_dims="extract with flatten_acts=True (--flatten-acts), flatten it with "
    "features.reshape(len(features), -1), write its slices with tensor2slices, which slices2tensor "
    "reads back, or choose another format",
)
