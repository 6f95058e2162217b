"""numpy's archive: an array per module, under the module's exact name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..arrays import Array
from .base import FileFormat, Layout, Writer
from .npy import write_header
from .spool import Spool, open_spool

_PART_BYTES = 16 * 1024 * 1024


@contextmanager
def _open(path: Path, layout: Layout) -> Iterator[Writer]:
    # An archive has one member after the other, but rows of all members arrive together.
    with open_spool(path, layout) as spool:
        yield spool
        _write(path, layout, spool)


def _write(path: Path, layout: Layout, spool: Spool) -> None:
    # numpy's own writer takes names as keywords, but already has a parameter `file`.
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        for column, array in zip(layout.columns, spool.arrays(), strict=True):
            with archive.open(f"{column.name}.npy", "w", force_zip64=True) as entry:
                write_header(entry, layout, column)
                values = array.reshape(-1).view(np.uint8)
                for start in range(0, len(values), _PART_BYTES):
                    entry.write(values[start : start + _PART_BYTES].data)


def _read(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array, not an archive of arrays")  # noqa: TRY004
        return {name: archive[name] for name in archive}


NPZ = FileFormat("npz", "npz", holds_several=True, opener=_open, reader=_read)
