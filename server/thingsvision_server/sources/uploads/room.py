"""The room that uploads have on the disk: a quota of all owners, and of all servers of a folder."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from ...errors import StorageError
from .damage import delete_set_aside
from .partials import PartialFiles

_MEASURE_BYTES = 16 * 1024 * 1024
_MEASURE_SECONDS = 1.0
"""The folder is measured again after so many bytes or seconds: other servers write to it, too."""


class Room:
    """The bytes that uploads may still use of their quota, counted as they arrive. Thread-safe.

    Announced bytes count for nothing: somebody who announces a large file and sends nothing holds
    up nobody. What counts is what is on the disk, of all owners and all servers that share the
    folder: it is measured when a file begins, and while files arrive. So servers together may
    exceed the quota by what each writes between two measurements, at most one file each.
    """

    def __init__(self, folder: Path, quota_bytes: int, partials: PartialFiles) -> None:
        self._folder = folder
        self.quota_bytes = quota_bytes
        self._partials = partials
        self._left_bytes = 0
        self._unmeasured_bytes = _MEASURE_BYTES
        self._measured_at = 0.0
        self._lock = threading.Lock()

    def set_quota(self, quota_bytes: int) -> None:
        """Use another quota from now on."""
        with self._lock:
            self.quota_bytes = quota_bytes
            self._left_bytes = 0  # so that the next upload measures

    def check(self, size_bytes: int) -> None:
        """Raise StorageError if a file of this size does not fit beside what is there now."""
        with self._lock:
            self._measure(size_bytes)
            if self._left_bytes < size_bytes:
                raise self._full(size_bytes)

    def take(self, count: int) -> None:
        """Count bytes that are about to be written; raise StorageError if there is no room."""
        with self._lock:
            is_late = time.monotonic() - self._measured_at >= _MEASURE_SECONDS
            if self._left_bytes < count or is_late or self._unmeasured_bytes >= _MEASURE_BYTES:
                self._measure(count)
            if self._left_bytes < count:
                raise self._full(count)
            self._left_bytes -= count
            self._unmeasured_bytes += count

    def _measure(self, needed_bytes: int) -> None:
        self._left_bytes = self.quota_bytes - self._used_bytes()
        if self._left_bytes < needed_bytes:
            self._partials.remove_silent()
            delete_set_aside(self._folder)
            self._left_bytes = self.quota_bytes - self._used_bytes()
        self._unmeasured_bytes = 0
        self._measured_at = time.monotonic()

    def _used_bytes(self) -> int:
        used = 0
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # a finished upload renames its file
                if path.is_file():
                    used += path.stat().st_size
        return used

    def _full(self, size_bytes: int) -> StorageError:
        used_bytes = self.quota_bytes - self._left_bytes
        return StorageError(
            f"no room for {size_bytes:,} bytes: uploads use {used_bytes:,} of this server's quota "
            f"of {self.quota_bytes:,} bytes. Delete some (`uploads` lists them, `delete-upload` "
            "deletes one), or start the server with a larger --upload-quota. What arrived of this "
            "file is kept for ten minutes at least: send it again to resume there",
            field="size_bytes",
        )
