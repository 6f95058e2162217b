"""Tells the servers that share a folder of images which images have changed.

Each server adds lines to files of its own, and reads on in the files of the others. A line names
an image to look at again, so that neither its order among other lines nor a second reading matters.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from ...shared_folder.heartbeats import Heartbeats
from .pools import Pool, parse_pool

_FILE_BYTES = 1024 * 1024
"""Length at which a server begins its next file."""

_FILES = 4
"""Files that a server keeps: who has not read on for longer looks at all images again."""

_DIGITS = 8


CHANGED, USED = "!", "~"


@dataclass(frozen=True)
class Item:
    """An image of a pool that was added or removed, or used; and who sent it, if it was added."""

    kind: str
    digest: bytes
    pool: Pool
    sender: str = ""

    def to_line(self) -> str:
        """Return the line that tells it."""
        names = [self.pool.folder or "-", quote(self.sender, safe="") or "-"]
        return " ".join([self.kind, self.digest.hex(), *names])


def _parse_line(line: str) -> Item:
    kind, digest, *names = line.split(" ")
    folder, sender = ("" if one == "-" else one for one in names)
    return Item(kind, bytes.fromhex(digest), parse_pool(folder), unquote(sender))


class News:
    """What this server tells the others, and what it has not heard from them yet.

    Not thread-safe.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder
        self._server = server
        self._number = 0
        self._length = 0
        self._read: dict[str, tuple[int, int]] = {}
        """By server the number of the file that is read, and how much of it has been."""

    def remove_dead(self, heartbeats: Heartbeats) -> None:
        """Remove what servers told that are dead; what they left has been looked at."""
        for server, numbers in self._files().items():
            if not heartbeats.is_alive(server):
                for number in numbers:
                    with suppress(OSError):
                        self._path(server, number).unlink(missing_ok=True)

    def tell(self, items: Iterable[Item]) -> None:
        """Add lines for the others. Raises OSError."""
        content = "".join(f"{item.to_line()}\n" for item in items).encode()
        if self._length and self._length + len(content) > _FILE_BYTES:
            self._number, self._length = self._number + 1, 0
            with suppress(OSError):
                self._path(self._server, self._number - _FILES).unlink(missing_ok=True)
        # Closed each time: on a network's disk, the others can read it only then.
        path = self._path(self._server, self._number)
        number = _open_to_append(path)
        try:
            os.write(number, content)
        finally:
            os.close(number)
        self._length += len(content)

    def skip(self) -> None:
        """Count all that has been told so far as heard."""
        self.hear()

    def hear(self) -> list[Item] | None:
        """Return what is new; None if some of it can't be read any more."""
        lines: list[str] = []
        files = self._files()
        is_whole = self._read.keys() <= files.keys()
        self._read = {server: self._read[server] for server in self._read if server in files}
        for server, numbers in files.items():
            first, read = self._read.get(server, (0, 0))
            is_whole = is_whole and first in numbers
            for number in sorted(one for one in numbers if one >= first):
                read = read if number == first else 0
                found, length = _read_on(self._path(server, number), read)
                lines += found
                self._read[server] = (number, read + length)
        return list(map(_parse_line, lines)) if is_whole else None

    def _files(self) -> dict[str, list[int]]:
        """Return the numbers of the files of each other server."""
        found: dict[str, list[int]] = {}
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                server, _, number = entry.name.rpartition(".")
                if server and number.isdigit() and server != self._server:
                    found.setdefault(server, []).append(int(number))
        return found

    def _path(self, server: str, number: int) -> Path:
        return self._folder / f"{server}.{number:0{_DIGITS}}"


def _open_to_append(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except FileNotFoundError:  # the folder is new
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


def _read_on(path: Path, offset: int) -> tuple[list[str], int]:
    """Return the whole lines of a file from an offset on, and their length."""
    try:
        number = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return [], 0
    try:
        # A file may get somewhat longer than a file of news: one telling is one write.
        size = os.fstat(number).st_size - offset
        content = os.pread(number, size, offset) if size > 0 else b""
    finally:
        os.close(number)
    whole = content[: content.rfind(b"\n") + 1]
    return whole.decode().splitlines(), len(whole)
