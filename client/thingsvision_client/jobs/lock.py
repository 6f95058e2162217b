"""One job in one place at a time: a lock that the system lets go of when its process dies."""

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
from .notices import writing

if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        # One byte far behind the text, so that others can read who holds the lock.
        os.lseek(file, 1 << 20, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
"""What systems say of a lock that another one holds."""


_PAUSE_S = 0.05


@contextmanager
def locked(path: Path, what: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file, which is made and removed.

    `what` is what the lock is for, e.g. a folder. Raises InvalidRequestError where another process
    holds it, at once or after so many seconds, StorageError where the file can't be made. A file
    system without locks guards nothing.
    """
    with writing(what):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _opened(path, what, time.monotonic() + patience_s)
    try:
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; the next job takes it over
            path.unlink()
        os.close(file)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file now. Raises StorageError."""
    try:
        with locked(path, path.parent):
            return False
    except InvalidRequestError:
        return True


def _opened(path: Path, what: Path, deadline: float) -> int:
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
                f"{what} is being extracted by {_holder(path)} now: wait for its end."
            ) from error
        if _is_at(file, path):
            return file
        os.close(file)  # its last holder removed it just now: another one is there, or none


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
