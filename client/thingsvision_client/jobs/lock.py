"""One job in one place at a time: a lock that the system releases when its process dies."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InvalidRequestError
from .notices import storage_errors

if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        # One byte far past the text, so that others can read who holds the lock.
        os.lseek(file, 1 << 20, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
"""Errors of a lock that another process holds."""


_PAUSE_S = 0.05


@contextmanager
def hold_lock(path: Path, what: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file, which is created and removed.

    `what` is what the lock is for, e.g. a folder. Raises InvalidRequestError if another process
    still holds it after `patience_s` seconds, and StorageError if the file can't be created. On a
    file system without locks nothing is guarded.
    """
    with storage_errors(what):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path, what, time.monotonic() + patience_s)
    try:
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        with suppress(OSError):  # Windows can't remove an open file; the next job reuses it
            path.unlink()
        os.close(file)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file. Raises StorageError."""
    try:
        with hold_lock(path, path.parent):
            return False
    except InvalidRequestError:
        return True


def _open_locked(path: Path, what: Path, deadline: float) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(file)
        except OSError as error:
            if error.errno not in _HELD:
                return file
            os.close(file)
            if time.monotonic() < deadline:
                time.sleep(_PAUSE_S)
                continue
            raise InvalidRequestError(
                f"Features for {what} are being extracted by {_holder(path)}: wait until it ends."
            ) from error
        if _is_at(file, path):
            return file
        os.close(file)  # its last holder has just removed it; another may exist by now


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"
