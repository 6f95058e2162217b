"""The files of uploads in progress or interrupted, in a folder that several servers may share.

What an interrupted upload has sent is kept for a day under a name of its sender, where the sender's
next upload resumes, on any of the servers:

    partial-DIGEST-SENDER                  interrupted; who resumes it renames it, which one can
    partial-DIGEST-SENDER-SERVER=NUMBER    being written by a server, or left by one that was killed

SENDER is a digest of the sender's name, then a digest of the announced size and the name. No file
needs a lock: whether a server is alive, its heartbeat tells. When room is needed, partial
files that nothing was written to for ten minutes go first.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from ...shared_folder.heartbeats import Heartbeats

_PARTIAL = "partial-"
_PLACE_DASHES = 2
"""In the name of a place: `partial-DIGEST-SENDER`."""

_SERVER_END = "="
_KEPT_SECONDS = 24 * 60 * 60
_SILENT_SECONDS = 10 * 60


class PartialFiles:
    """The partial files of a folder; `heartbeats` are of the servers that share it."""

    def __init__(self, folder: Path, heartbeats: Heartbeats) -> None:
        self._folder = folder
        self._heartbeats = heartbeats

    def place(self, sha256: str, size_bytes: int, sender: str) -> Path:
        """Return the path of the file that a sender's uploads of so many bytes resume."""
        return self._folder / f"{_PARTIAL}{sha256}-{_tag(sender)}{_tag(f'{size_bytes} {sender}')}"

    def open(self, place: Path, size_bytes: int) -> IO[bytes]:
        """Open a file unbuffered to append to it: what is left at a place, or else a new one.

        What another upload is writing at this moment is left alone.
        """
        server = self._heartbeats.server
        path = place.with_name(f"{place.name}-{server}{_SERVER_END}{uuid.uuid4().hex}")
        for left in self._left_at(place):
            with suppress(FileNotFoundError):  # another upload was quicker
                left.rename(path)
                break
        file = path.open("a+b", buffering=0)
        if path.stat().st_size > size_bytes:
            file.truncate(0)
        return file

    def put_back(self, path: Path, place: Path) -> None:
        """Leave an opened file at its place, unless more is there."""
        with suppress(FileNotFoundError):
            if place.exists() and place.stat().st_size >= path.stat().st_size:
                path.unlink()
            else:
                path.rename(place)

    def other_bytes(self, place: Path, path: Path, sender: str) -> int:
        """Return the bytes of a sender's partial files beside an opened one, `path`.

        Of those at the same place, which the same file is sent to, the largest counts for nothing:
        a broken connection may have left it a moment ago.
        """
        total = largest = 0
        for other in self._of(sender):
            with suppress(FileNotFoundError):
                size = 0 if other == path else other.stat().st_size
                total += size
                if other.name.startswith(place.name):
                    largest = max(largest, size)
        return total - largest

    def remove_others(self, place: Path, sender: str) -> None:
        """Delete what a sender's other interrupted uploads left."""
        for other in self._of(sender):
            if not other.name.startswith(place.name) and not self._is_written(other):
                other.unlink(missing_ok=True)

    def remove_old(self) -> None:
        """Delete what uploads left that were interrupted a day ago."""
        self._remove(_KEPT_SECONDS)

    def remove_silent(self) -> None:
        """Delete what interrupted uploads left, if nothing was written to it for ten minutes."""
        self._remove(_SILENT_SECONDS)

    def _left_at(self, place: Path) -> Iterator[Path]:
        """Yield what an upload may resume: what was put back, then what killed servers wrote."""
        yield place
        for path in place.parent.glob(f"{place.name}-*{_SERVER_END}*"):
            if not self._is_written(path):
                yield path

    def _of(self, sender: str) -> list[Path]:
        return list(self._folder.glob(f"{_PARTIAL}*-{_tag(sender)}*"))

    def _remove(self, older_than_seconds: float) -> None:
        for path in self._folder.glob(f"{_PARTIAL}*"):
            with suppress(FileNotFoundError):
                age_seconds = time.time() - path.stat().st_mtime
                # An earlier version gave a second upload a file that nothing resumes.
                is_lone = path.name.count("-") > _PLACE_DASHES and _SERVER_END not in path.name
                limit = min(older_than_seconds, _SILENT_SECONDS) if is_lone else older_than_seconds
                if age_seconds >= limit and not self._is_written(path):
                    path.unlink()

    def _is_written(self, path: Path) -> bool:
        """Return whether a server that is alive has this file open."""
        rest, mark, _ = path.name.rpartition(_SERVER_END)
        return bool(mark) and self._heartbeats.is_alive(rest.split("-", _PLACE_DASHES + 1)[-1])


def _tag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
