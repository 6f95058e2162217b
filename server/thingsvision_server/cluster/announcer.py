"""Writes a server's announcement again and again, as long as its event loop runs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from .addresses import own_network
from .announcement import Announcement, ServerState
from .folder import remove_announcement, write_announcement
from .membership import Membership

_BEAT_SECONDS = 2.0
_CLEANING_BEATS = 300
_LAST_SECONDS = 5.0
"""How long the last words to a folder may take that does not answer."""

_log = structlog.get_logger(__name__)


class Announcer:
    """Announces one server in a folder.

    Args:
        folder: The folder.
        membership: What knows the other servers; its `address` is announced.
        describe: Returns what the server tells about itself, as JSON has it.
        metrics: Where its metrics are, `IP:PORT`; or empty.

    """

    def __init__(
        self,
        folder: Path,
        membership: Membership,
        describe: Callable[[], Mapping[str, Any]],
        *,
        metrics: str,
    ) -> None:
        self._folder = folder
        self._membership = membership
        self._describe = describe
        self._metrics = metrics
        self._network = own_network()
        self._process = uuid.uuid4().hex
        self._state = ServerState.SERVING
        self._beat = 0
        self._failure = ""
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announce the server, and go on with that until `stop`."""
        await self._write()
        self._task = asyncio.create_task(self._run(), name="announce")

    async def drain(self) -> None:
        """Say at once that the server takes no new calls soon."""
        self._state = ServerState.DRAINING
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._write()

    async def stop(self) -> None:
        """Remove the announcement: the server is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        try:
            async with asyncio.timeout(_LAST_SECONDS), self._writing:
                await asyncio.to_thread(remove_announcement, self._folder, self._announcement())
        except (OSError, ValueError) as error:  # a TimeoutError is an OSError
            _log.warning("the announcement can't be removed", reason=str(error))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            await self._write()
            # Who looks seldom takes the dead for living.
            await asyncio.to_thread(self._membership.others)
            if self._beat % _CLEANING_BEATS == 0:
                with suppress(OSError):
                    await asyncio.to_thread(self._membership.remove_dead)

    async def _write(self) -> None:
        async with self._writing:
            self._beat += 1
            announcement = self._announcement()
            try:
                await asyncio.to_thread(write_announcement, self._folder, announcement)
            except OSError as error:
                self._report(str(error))
            else:
                self._report("")

    def _announcement(self) -> Announcement:
        return Announcement(
            address=self._membership.address,
            network=self._network,
            process=self._process,
            beat=self._beat,
            state=self._state,
            metrics=self._metrics,
            status=self._describe(),
        )

    def _report(self, failure: str) -> None:
        """Log when announcing begins to fail, and when it works again."""
        if failure and failure != self._failure:
            _log.warning("the server can't be announced; gateways forget it", reason=failure)
        elif self._failure and not failure:
            _log.info("the server is announced again")
        self._failure = failure
