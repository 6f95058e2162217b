"""Temporary files for the rows of formats that need whole columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from ..arrays import Array
from .base import Layout


class Spool:
    """A nameless file per column, which is deleted when the block ends, even by an error."""

    def __init__(self, layout: Layout, files: Sequence[IO[bytes]]) -> None:
        self._layout = layout
        self._files = files

    def write(self, rows: Sequence[Array]) -> None:
        """Append rows of every column, in C order."""
        # Not through memory maps: with them a full disk kills the process instead of raising.
        for file, array in zip(self._files, rows, strict=True):
            file.write(array.data)

    def arrays(self) -> Iterator[Array]:
        """Yield each column, whole, as a private memory map; changes are not stored."""
        for file, column in zip(self._files, self._layout.columns, strict=True):
            file.flush()
            shape = self._layout.shape_of(column)
            yield np.memmap(file, column.dtype, "c", shape=shape)


@contextmanager
def open_spool(path: Path, layout: Layout) -> Iterator[Spool]:
    """Yield a spool on the disk of `path`."""
    with ExitStack() as stack:
        files = [stack.enter_context(TemporaryFile(dir=path.parent)) for _ in layout.columns]
        yield Spool(layout, files)
