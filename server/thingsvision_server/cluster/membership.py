"""A server's place among those that announce themselves in its folder: its address, and theirs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import structlog

from ..errors import WrongServerError
from .addresses import SOCKET
from .watch import AnnouncementWatch, Sight

_LOOK_SECONDS = 0.5
"""How old the announcements may be that a call is told."""

_log = structlog.get_logger(__name__)


class Membership:
    """Which cluster a server is of; without a folder, of none.

    `address` is what it announces, as soon as that is known; empty without a folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self.address = ""
        self._watch = None if folder is None else AnnouncementWatch(folder)
        self._seen: list[Sight] = []
        self._looked_at = float("-inf")
        self._looking = threading.Lock()

    def check_destination(self, mark: str) -> None:
        """Raise WrongServerError if a call is meant for another server than this one.

        `mark` is an address, or the path of a socket, as gateways have it.
        """
        if mark == self.address.removeprefix(SOCKET):
            return
        own = self.address or "a server that announces no address (--announce-dir)"
        raise WrongServerError(
            f"the call is for the server {mark}, and reached {own}: the gateway does not route "
            "by x-thingsvision-server, or that server is gone",
            field="x-thingsvision-server",
            subject=mark,
        )

    @property
    def last_seen(self) -> list[Sight]:
        """The other servers as they were last seen."""
        return [one for one in self._seen if one.announcement.address != self.address]

    def others(self) -> list[Sight]:
        """Return the other servers whose files are there, also those that seem dead.

        If the folder can't be read, they are as they were last seen. This may block.
        """
        if self._watch is None:
            return []
        # A folder that does not answer holds one thread, not one of each call.
        if self._looking.acquire(blocking=False):
            try:
                self._look(self._watch)
            finally:
                self._looking.release()
        return self.last_seen

    def _look(self, watch: AnnouncementWatch) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            self._seen = watch.look()
        except OSError as error:
            _log.warning("announcements can't be read", reason=str(error))

    def remove_dead(self) -> None:
        """Remove what servers left that were killed long ago. Raises OSError."""
        if self._watch is not None:
            self._watch.look()
            self._watch.remove_dead()
