"""Checks uploaded files in turns: few at a time, of whoever has used the fewest seconds next."""

from __future__ import annotations

import asyncio
import contextvars
import threading

from ..access.person import caller_name
from ..engine.fairness.order import OnUsed, count_nothing
from ..engine.fairness.turns import Turns
from ..sources.uploads.records import UploadRecord
from ..sources.uploads.upload import Upload


class UploadChecks:
    """Finishes uploads; those of one person leave room for the first of another."""

    def __init__(self, width: int = 2, *, on_used: OnUsed = count_nothing) -> None:
        self.turns = Turns(width, on_used=on_used)

    async def finish(self, upload: Upload) -> UploadRecord:
        """Check and store a file; if the call is cancelled, wait until its thread is done.

        Otherwise the client's next attempt would resume the file that the thread is renaming.
        """
        cancelled, person = threading.Event(), caller_name()

        def run() -> UploadRecord:
            with self.turns.take(person, cancelled):
                return upload.finish()

        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        finishing = loop.run_in_executor(self.turns.threads, context.run, run)
        try:
            return await asyncio.shield(finishing)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.to_thread(upload.interrupt)
            raise
        finally:
            await asyncio.wait({finishing})
            if not finishing.cancelled():
                finishing.exception()  # or asyncio logs that nobody asked for it
