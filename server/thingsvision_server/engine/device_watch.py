"""Notices when the process has lost its device, so that the server can end and be restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ..backends.device_faults import Verdict, judge

_log = structlog.get_logger(__name__)


class DeviceWatch:
    """Judges errors of a device; `answers` asks the device itself whether it still works.

    All methods belong to one event loop.
    """

    def __init__(self, device: str, answers: Callable[[], bool]) -> None:
        self.device = device
        self.reason = ""
        """Why the device can't be used any more; empty: it can."""
        self._answers = answers
        self._lost = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    def check(self, error: BaseException) -> bool:
        """Tell whether the device is lost, by this error or an earlier one.

        If the error alone does not say it, the device is asked, and `wait` returns later.
        """
        if not self.reason:
            verdict, sentence = judge(error)
            if verdict is Verdict.LOST:
                self._lose(sentence)
            elif verdict is Verdict.DOUBTFUL and self._asking is None:
                self._asking = asyncio.create_task(self._ask(sentence), name="ask the device")
        return bool(self.reason)

    async def wait(self) -> str:
        """Wait until the device is lost, and return why."""
        await self._lost.wait()
        return self.reason

    async def _ask(self, sentence: str) -> None:
        try:
            if not await asyncio.to_thread(self._answers):
                self._lose(sentence)
        finally:
            self._asking = None

    def _lose(self, sentence: str) -> None:
        if not self.reason:
            self.reason = sentence
            self._lost.set()
            _log.error("the device is lost", device=self.device, reason=sentence)
