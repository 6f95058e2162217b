"""The folder of announcements: who may write there, and how a server's file is written.

Who can write there receives the requests of users, so the system's permissions must say who can.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .announcement import SUFFIX, Announcement, file_name, parse_announcement

_MOST_BYTES = 4 * 2**20
_FILE_MODE = 0o644
_FOLDER_MODE = 0o755
_UNFINISHED = ".new"


def make_folder(folder: Path) -> None:
    """Make the folder if only that is missing, for its owner to write in. Raises OSError."""
    folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def folder_fault(folder: Path) -> str:
    """Return why announcements in a folder can't be believed; empty if they can.

    Raises OSError.
    """
    if os.name != "posix":
        return ""
    for place in (folder.resolve(), *folder.resolve().parents):
        mode = place.stat().st_mode
        # In a folder such as /tmp, others can't replace what is not theirs.
        is_safe_above = place != folder.resolve() and mode & stat.S_ISVTX
        if mode & stat.S_IWOTH and not is_safe_above:
            return (
                f"{place} must not be writable by others, who could receive users' requests, got "
                f"{stat.S_IMODE(mode):04o}: chmod o-w it"
            )
    return ""


def folder_doubts(folder: Path) -> Iterator[str]:
    """Yield who else may write in a folder, besides this user and root. Raises OSError."""
    if os.name != "posix":
        return
    found = folder.stat()
    if found.st_mode & stat.S_IWGRP:
        yield (
            f"{folder} is writable by its group (gid {found.st_gid}), got "
            f"{stat.S_IMODE(found.st_mode):04o}"
        )
    if found.st_uid not in (0, os.geteuid()):
        yield f"{folder} belongs to another user (uid {found.st_uid})"


def write_announcement(folder: Path, announcement: Announcement) -> None:
    """Replace a server's file: readers see the old content or the new content, whole.

    Raises OSError.
    """
    path = folder / file_name(announcement.address, announcement.network)
    unfinished = path.with_name(f".{path.name}{_UNFINISHED}")
    # Another file of that name is what a killed server left.
    unfinished.unlink(missing_ok=True)
    number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    with os.fdopen(number, "wb") as file:
        file.write(announcement.to_bytes())
    unfinished.replace(path)


def remove_announcement(folder: Path, announcement: Announcement) -> None:
    """Remove a server's file, unless another process has written it since. Raises OSError."""
    path = folder / file_name(announcement.address, announcement.network)
    with suppress(FileNotFoundError):
        if parse_announcement(read_file(path)).process == announcement.process:
            path.unlink()


def announcement_names(folder: Path) -> list[str]:
    """Return the names of the files of servers. Raises OSError."""
    names = [path.name for path in folder.iterdir()]
    return sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith("."))


def unfinished_names(folder: Path) -> list[str]:
    """Return the names of files that are being written, or were left. Raises OSError."""
    return [path.name for path in folder.glob(f".*{SUFFIX}{_UNFINISHED}")]


def read_file(path: Path) -> bytes:
    """Return the content of an ordinary file: not of a link, a pipe, or more than 4 MiB.

    Raises OSError and ValueError.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not an ordinary file")
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
    return content
