"""Reads the announcements of all servers again and again, and tells which of them still live.

A server lives while its file changes, by the reader's own clock: the clocks of two machines, and
the times that a shared folder gives its files, may differ by any amount.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from .announcement import Announcement, ServerState, parse_announcement
from .folder import announcement_names, read_file, unfinished_names

STALE_SECONDS = 30.0
"""A server whose file did not change for so long is taken for dead."""

_FORGET_SECONDS = 3600.0
"""Files of dead servers are removed after that; a server that comes back writes its file anew."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sight:
    """An announcement, and how long its file has not changed, seconds."""

    name: str
    announcement: Announcement
    unchanged_seconds: float

    @property
    def is_fresh(self) -> bool:
        """Whether the server lives, as far as its file tells."""
        return self.unchanged_seconds < STALE_SECONDS


@dataclass
class _Memory:
    """What was last read of a file, and when that was new."""

    content: bytes
    changed_at: float
    announcement: Announcement | None


class AnnouncementWatch:
    """The announcements in one folder, as one reader sees them over time. Thread-safe."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self._clock = clock
        self._files: dict[str, _Memory] = {}
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def look(self) -> list[Sight]:
        """Read the folder, and return the servers by the names of their files, also dead servers.

        If all files vanish though their servers did not say that they drain, they stay for as long
        as files that do not change: a folder that is not mounted is empty, too. Raises OSError.
        """
        with self._lock:
            # A list that is read while a file is replaced may lack it.
            known = [name for name in self._files if not name.startswith(".")]
            names = {*announcement_names(self.folder), *known}
            self._forget_missing(frozenset(name for name in names if self._read(name)))
            now = self._clock()
            return [
                Sight(name, file.announcement, now - file.changed_at)
                for name, file in sorted(self._files.items())
                if file.announcement is not None
            ]

    def remove_dead(self) -> None:
        """Remove files that have not changed for an hour, and what killed servers left unfinished.

        Raises OSError.
        """
        with self._lock:
            for name in unfinished_names(self.folder):
                self._read(name)
            now = self._clock()
            for name, file in list(self._files.items()):
                if now - file.changed_at < _FORGET_SECONDS:
                    continue
                path = self.folder / name
                with suppress(OSError, ValueError):
                    if read_file(path) == file.content:
                        path.unlink()
                del self._files[name]

    def _read(self, name: str) -> bool:
        """Read a file if it is there, and return whether it is."""
        known = self._files.get(name)
        try:
            content = read_file(self.folder / name)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            self._warn(name, error)
            return True
        if known is not None and known.content == content:
            return True
        announcement = None
        try:
            announcement = parse_announcement(content)
        except ValueError as error:
            if not name.startswith("."):
                self._warn(name, error)
        self._files[name] = _Memory(content, self._clock(), announcement)
        return True

    def _forget_missing(self, names: frozenset[str]) -> None:
        now = self._clock()
        for name, file in list(self._files.items()):
            if name in names or name.startswith("."):
                continue
            has_left = file.announcement is None or file.announcement.state is ServerState.DRAINING
            if names or has_left or now - file.changed_at >= STALE_SECONDS:
                del self._files[name]

    def _warn(self, name: str, error: Exception) -> None:
        """Say once what is wrong with a file."""
        reason = f"{name}: {error}"
        if reason not in self._told:
            self._told.add(reason)
            _log.warning("an announcement can't be read", file=name, reason=str(error))
