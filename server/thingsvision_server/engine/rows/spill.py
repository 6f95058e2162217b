"""A temporary file for rows that do not fit into memory.

It is read with `preadv` into a buffer: pages of a memory map would count as this process's memory
until the kernel reclaims them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ...errors import ExhaustedError, StorageError
from ...shortages import shortage_behind

Array = npt.NDArray[Any]


class SpillQuota:
    """The disk space that the spilled features of all requests share. Threads may share it."""

    def __init__(self, total_bytes: int = sys.maxsize) -> None:
        self.total_bytes = total_bytes
        self._used_bytes = 0
        self._lock = threading.Lock()

    def check(self, needed_bytes: int) -> None:
        """Raise ExhaustedError if one request would spill more than all may."""
        if needed_bytes > self.total_bytes:
            raise self._error(f"this request would spill {needed_bytes:,} bytes of features")

    def take(self, byte_count: int) -> None:
        """Count bytes that are written; raise ExhaustedError if they are too many."""
        with self._lock:
            used_bytes = self._used_bytes
            if used_bytes + byte_count > self.total_bytes:
                raise self._error(
                    f"{used_bytes:,} bytes of features are spilled, of this request and of others, "
                    f"and {byte_count:,} more must be"
                )
            self._used_bytes += byte_count

    def give_back(self, byte_count: int) -> None:
        """Count bytes as free."""
        with self._lock:
            self._used_bytes -= byte_count

    def _error(self, what: str) -> ExhaustedError:
        return ExhaustedError(
            f"{what}; this server spills at most {self.total_bytes:,} bytes (--spill-quota). Use "
            "fewer images or modules, or pool the features",
            field="image",
        )


class SpillFile:
    """A temporary file without a name: the system frees it however this process ends."""

    def __init__(self, directory: Path | None, quota: SpillQuota) -> None:
        self._quota, self._taken_bytes = quota, 0
        self._directory = Path(tempfile.gettempdir() if directory is None else directory)
        self._file: IO[bytes] | None = None
        self.byte_count = 0

    def append(self, array: Array) -> int:
        """Append a contiguous array, and return its offset, bytes."""
        offset = self.byte_count
        self._quota.take(array.nbytes)
        self._taken_bytes += array.nbytes
        try:
            self._write(array.view(np.uint8).data)
        except OSError as error:
            if not isinstance(shortage_behind(error), StorageError):
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
        self._quota.give_back(self._taken_bytes)
        self._taken_bytes = 0
        if self._file is not None:
            self._file.close()
            self._file = None
