"""A temporary file for rows that do not fit into memory.

It is read with `preadv` into a buffer: pages of a memory map would count as this process's memory
until the kernel reclaims them.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ...errors import StorageError

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Array = npt.NDArray[Any]


class SpillFile:
    """A temporary file without a name: the system frees it however this process ends."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = Path(tempfile.gettempdir() if directory is None else directory)
        self._file: IO[bytes] | None = None
        self.byte_count = 0

    def append(self, array: Array) -> int:
        """Append a contiguous array, and return its offset, bytes."""
        offset = self.byte_count
        try:
            self._write(array.view(np.uint8).data)
        except OSError as error:
            if error.errno not in _FULL_DISK:
                raise
            raise StorageError(
                f"{self._directory} has no room for {array.nbytes} more bytes of features "
                f"({offset} bytes are spilled there); start the server with another --spill-dir",
                subject=str(self._directory),
            ) from error
        return offset

    def _write(self, data: memoryview) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
        fd = self._file.fileno()
        while data:
            written = os.pwrite(fd, data, self.byte_count)
            self.byte_count += written
            data = data[written:]

    def read_into(self, array: Array, offset: int) -> None:
        """Fill a contiguous array from `offset`, bytes; several threads may read at once."""
        if self._file is None:
            raise ValueError("the spool is closed")
        data = array.view(np.uint8).data
        while data:
            count = os.preadv(self._file.fileno(), [data], offset)
            if not count:
                raise EOFError(f"the spool's file ends before byte {offset + len(data)}")
            data, offset = data[count:], offset + count

    def close(self) -> None:
        """Free the disk space."""
        if self._file is not None:
            self._file.close()
            self._file = None
