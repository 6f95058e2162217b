"""Rows that wait on the disk, since their format wants them whole; knows no format."""

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
    """One nameless file per column, which is gone when the block ends, however it ends."""

    def __init__(self, layout: Layout, files: Sequence[IO[bytes]]) -> None:
        self._layout = layout
        self._files = files

    def write(self, rows: Sequence[Array]) -> None:
        """Append rows of every column, in C order."""
        # Not through memory maps: a full disk is an error here, there it ends the process.
        for file, array in zip(self._files, rows, strict=True):
            file.write(array.data)

    def arrays(self) -> Iterator[Array]:
        """Yield each column, whole, mapped into memory; what is changed there is not kept."""
        for file, column in zip(self._files, self._layout.columns, strict=True):
            file.flush()
            shape = self._layout.shape_of(column)
            yield np.memmap(file, column.dtype, "c", shape=shape)


@contextmanager
def open_spool(path: Path, layout: Layout) -> Iterator[Spool]:
    """Give a spool on the disk where `path` will be."""
    with ExitStack() as stack:
        files = [stack.enter_context(TemporaryFile(dir=path.parent)) for _ in layout.columns]
        yield Spool(layout, files)
