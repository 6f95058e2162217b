"""Claims files of a folder that several servers share, so that none deletes what another uses.

A claim is a file: of a server, for a path. Who uses a file claims it first, then looks whether it
is there. Who deletes a file renames it first, then looks for claims, and renames it back if there
is one. Whichever came first, one of the two sees the other; no lock is needed. A claim of a server
that is dead counts for nothing.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import structlog

from ..shortages import shortage_behind
from .heartbeats import Heartbeats

_TRIES = 20

_MISSES = 10
_PAUSE_SECONDS = 0.001
"""A file may have got its name back just after it was looked for, again and again."""

_DOOMED = ".doomed-"
_MARK_CHARACTERS = 12

_log = structlog.get_logger(__name__)


class ClaimedError(Exception):
    """A file can't be deleted: servers use it.

    Attributes:
        servers: Where they run, as sentences name it; this server is among them.

    """

    def __init__(self, path: Path, servers: list[str]) -> None:
        super().__init__(f"{path} is used by {' and '.join(servers)}")
        self.servers = servers


class Claims:
    """The claims of this server on files below a root, and the claims of the others. Thread-safe.

    Args:
        root: The folder that the servers share. Its folder `servers` has claims and hearts.
        heartbeats: The hearts of the servers, in the same folder.

    """

    def __init__(self, root: Path, heartbeats: Heartbeats | None = None) -> None:
        self._root = root
        self._folder = root / "servers"
        self.heartbeats = heartbeats or Heartbeats(self._folder)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.heartbeats.after_loss(self._claim_again)
        self.heartbeats.after_death(self._remove_claims)
        self.remove_dead()

    @property
    def server(self) -> str:
        """Return the name of this server among those that share the folder."""
        return self.heartbeats.server

    def close(self) -> None:
        """Give up all claims, and stop the heart."""
        with self._lock:
            self._counts.clear()
        self._remove_claims(self.server)
        self.heartbeats.close()

    def take(self, path: Path) -> bool:
        """Claim a file until `drop`; return whether it is there.

        Each `take` needs a `drop`, whatever it returned; the first one makes the claim.
        """
        self.heartbeats.beat_if_late()
        key = self._key(path)
        with self._lock:
            self._counts[key] += 1
            if self._counts[key] == 1:
                self._write(key)
        return is_there(path)

    def drop(self, path: Path) -> None:
        """Give up what one `take` has claimed."""
        key = self._key(path)
        with self._lock:
            if self._counts[key] > 1:
                self._counts[key] -= 1
            elif self._counts.pop(key, 0):
                with suppress(OSError):
                    self._claim(key, self.server).unlink(missing_ok=True)

    @contextmanager
    def hold(self, path: Path) -> Iterator[bool]:
        """Claim a file while the context lasts, which gets whether it is there."""
        found = self.take(path)
        try:
            yield found
        finally:
            self.drop(path)

    def users(self, path: Path) -> list[str]:
        """Return the servers, dead ones left out, that claim a file; this one may be among them."""
        key = self._key(path)
        claims = self._folder.glob(f"{_escape(key)}@*")
        servers = sorted(_claimant(claim) for claim in claims)
        return [one for one in servers if self.heartbeats.is_alive(one)]

    def remove_dead(self) -> None:
        """Remove the claims of servers that were killed; nothing counts on that."""
        for server in {_claimant(claim) for claim in self._folder.glob("*@*")}:
            if not self.heartbeats.is_alive(server):
                self._remove_claims(server)

    def delete(self, path: Path, is_wanted: Callable[[], bool] = lambda: False) -> bool:
        """Delete a file that no server claims; return False if it is not there.

        `is_wanted` is asked when nobody sees the file any more: if it is, as it has another owner
        now, it stays, and counts as not there. Raises ClaimedError, and leaves the file, if a
        server claims it: this one, too.
        """
        for _ in range(_TRIES):
            if not is_there(path):
                return False
            doomed = _doomed(path)
            try:
                path.rename(doomed)
            except FileNotFoundError:  # another deletes it as well
                continue
            if users := self.users(path):
                _give_back(doomed, path)
                raise ClaimedError(path, [self._describe(one) for one in users])
            if is_wanted():
                _give_back(doomed, path)
                return False
            try:
                doomed.unlink()
            except FileNotFoundError:  # somebody has taken it back, or deletes it as well
                continue
            return True
        raise ClaimedError(path, ["a server that begins to use it"])

    def _describe(self, server: str) -> str:
        process = self.heartbeats.process(server)
        where = f"the server of {process}" if process else f"the server {server}"
        return "this server" if server == self.server else where

    def _key(self, path: Path) -> str:
        return quote(path.relative_to(self._root).as_posix(), safe="")

    def _claim(self, key: str, server: str) -> Path:
        return self._folder / f"{key}@{server}"

    def _write(self, key: str) -> None:
        try:
            self._claim(key, self.server).touch()
        except OSError as error:
            if shortage_behind(error) is None and not isinstance(error, PermissionError):
                raise
            # What is on a full disk, or on one that can only be read, can be used all the same.
            _log.warning("a file in use can't be claimed", file=key, reason=str(error))

    def _claim_again(self) -> None:
        with self._lock:
            for key in self._counts:
                self._write(key)

    def _remove_claims(self, server: str) -> None:
        for claim in self._folder.glob(f"*@{_escape(server)}"):
            with suppress(OSError):
                claim.unlink(missing_ok=True)


def _claimant(claim: Path) -> str:
    return claim.name.rpartition("@")[2]


def is_there(path: Path) -> bool:
    """Return whether a file is there; take it back if somebody is about to delete it.

    Who deletes it looks for claims once more then. It is opened, not asked for: on a network's
    disk, only that is sure to be fresh.
    """
    misses = 0
    while misses < _MISSES:
        try:
            path.open("rb").close()
        except FileNotFoundError:
            if not _take_back(path):
                misses += 1
                time.sleep(_PAUSE_SECONDS * (misses > 1))
        except OSError:  # it can't be read now
            return True
        else:
            return True
    return False


def wait_as_if_missing() -> None:
    """Wait as long as `is_there` waits for a file that is not there."""
    for misses in range(1, _MISSES + 1):
        time.sleep(_PAUSE_SECONDS * (misses > 1))


def remove_doomed(folder: Path) -> None:
    """Give the files of a folder their names again that a killed server was about to delete."""
    for doomed in folder.glob(f"{_DOOMED}*"):
        with suppress(OSError):
            doomed.rename(doomed.with_name(doomed.name[len(_DOOMED) + _MARK_CHARACTERS + 1 :]))


def _take_back(path: Path) -> bool:
    """Give a file its name again; return whether there was one to be deleted.

    Its name is another each time it is to be deleted: who was about to delete it can't any more.
    """
    for doomed in path.parent.glob(f"{_DOOMED}{'?' * _MARK_CHARACTERS}-{_escape(path.name)}"):
        with suppress(OSError):
            doomed.rename(path)
            return True
    return False


def _give_back(doomed: Path, path: Path) -> None:
    """Give a file its name again, unless somebody has; who has stored it anew stored the same."""
    with suppress(FileNotFoundError):
        doomed.rename(path)


def _doomed(path: Path) -> Path:
    return path.with_name(f"{_DOOMED}{uuid.uuid4().hex[:_MARK_CHARACTERS]}-{path.name}")


def _escape(text: str) -> str:
    """Return a pattern that matches this text alone."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in text)
