"""Lets one process at a time work on a name or a digest, in a folder that several servers share.

It needs no locks of the file system, which network disks may lack: who has made a file is alone.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STALE_SECONDS = 10.0
"""Whoever holds a file for so long was killed: it is held while a folder is listed."""

_WAIT_SECONDS = 0.02

_PREFIX = ".alone-"
_OLD_SECONDS = 24 * 3600.0

_Identity = tuple[int, int, int]


@contextmanager
def alone(folder: Path, key: str) -> Iterator[None]:
    """Be the only one who works on a key, a name or a digest, while the context lasts.

    Everybody may work on the empty key. A server that stood still for longer than `STALE_SECONDS`
    may find another in its place.
    """
    if not key:
        yield
        return
    path = folder / f"{_PREFIX}{hashlib.sha256(key.encode()).hexdigest()}"
    number = _wait_and_make(path)
    try:
        yield
    finally:
        with suppress(OSError):
            if os.path.samestat(os.fstat(number), path.stat()):
                path.unlink()
        os.close(number)


def remove_left(folder: Path) -> None:
    """Delete what servers left that were killed while they were alone, of the days before."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                path.unlink()


def _wait_and_make(path: Path) -> int:
    number = _make(path)
    seen, since = None, time.monotonic()
    while number is None:
        time.sleep(_WAIT_SECONDS)
        found = _identity(path)
        # By this process's own clock: the clocks of servers and disks may differ.
        if found != seen:
            seen, since = found, time.monotonic()
        elif found is not None and time.monotonic() - since > STALE_SECONDS:
            _take_away(path, found)
        number = _make(path)
    return number


def _make(path: Path) -> int | None:
    """Return the open file if it was not there."""
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return None


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _take_away(path: Path, stale: _Identity) -> None:
    """Remove what a killed server left; of several that try, one succeeds."""
    taken = path.with_name(f"{path.name}-{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        path.rename(taken)
        if _identity(taken) != stale:  # another was quicker, and holds the file now
            with suppress(OSError):
                os.link(taken, path)
        taken.unlink()
