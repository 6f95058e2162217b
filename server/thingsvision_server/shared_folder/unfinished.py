"""Writes files that get their names when they are complete, and removes what a killed server left.

In a folder that several servers share, the name of an unfinished file says which server writes it:
when that server is dead, its files are removed. Without such a name, who writes a file holds a lock
on it, which the system releases however the process ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .heartbeats import Heartbeats

_PREFIX = ".unfinished-"
_SERVER_END = "="
"""Ends the server's name in the name of an unfinished file."""


@contextmanager
def unfinished_file(folder: Path, server: str = "") -> Iterator[IO[bytes]]:
    """Open a new file in a folder, to be written and then finished in the context.

    If it still has its first name at the end, it is deleted. `server` is this server's name among
    those that share the folder.
    """
    while True:
        path = folder / f"{_prefix(server)}{uuid.uuid4().hex}"
        with path.open("xb") as file:
            try:
                if _is_ours(file.fileno(), path):
                    yield file
                    return
            finally:
                path.unlink(missing_ok=True)


def finish(file: IO[bytes], path: Path) -> None:
    """Give an unfinished file its name."""
    file.flush()
    Path(file.name).replace(path)


def write_file(path: Path, content: bytes, server: str = "") -> None:
    """Write a file; whoever reads it sees the old content or the new content, whole."""
    with unfinished_file(path.parent, server) as file:
        file.write(content)
        finish(file, path)


@contextmanager
def unfinished_folder(folder: Path, server: str = "") -> Iterator[Path]:
    """Make a folder in another one for files that libraries write; it is deleted at the end."""
    while True:
        path = Path(tempfile.mkdtemp(dir=folder, prefix=_prefix(server)))
        number = os.open(path, os.O_RDONLY)
        try:
            if _is_ours(number, path):
                yield path
                return
        finally:
            os.close(number)
            shutil.rmtree(path, ignore_errors=True)


def remove_unfinished(folder: Path, heartbeats: Heartbeats | None = None) -> None:
    """Delete what servers that were killed left unfinished; what is being written stays.

    `heartbeats` tells which of the servers that share the folder are alive; without it, files of
    named servers stay.
    """
    for path in folder.glob(f"{_PREFIX}*"):
        server, mark, _ = path.name.removeprefix(_PREFIX).rpartition(_SERVER_END)
        if not mark:
            _remove_unlocked(path)
        elif heartbeats is not None and not heartbeats.is_alive(server):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _remove_unlocked(path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            if _lock(number) is True and _is_at(number, path):
                _remove(path)
        finally:
            os.close(number)


def _prefix(server: str) -> str:
    return f"{_PREFIX}{server}{_SERVER_END}" if server else _PREFIX


def _is_ours(number: int, path: Path) -> bool:
    """Lock what was just made; False if a server that started in this moment has deleted it."""
    return _lock(number) is not False and _is_at(number, path)


def _lock(number: int) -> bool | None:
    """Lock an open file; False if another process has, None on a disk that has no locks."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False
