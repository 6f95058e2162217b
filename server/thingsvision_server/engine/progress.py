"""Runs work in a thread, reports its progress, and stops it when nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """Finished blocks and all blocks, over all parts."""

    done_count: int
    total_count: int


class _CancelledError(Exception):
    """Nobody waits for the work any more."""


@dataclass
class ProgressTracker:
    """The progress of work in a thread, and whether the work is cancelled."""

    part_count: int
    progress: Progress = field(default=Progress(0, 0), init=False)
    cancelled: threading.Event = field(default_factory=threading.Event, init=False)

    def on_block(self, part: int) -> Callable[[int, int], None]:
        """Return what a part calls after each block, with its finished and its total blocks.

        Once the work is cancelled, the call raises, which ends the work.
        """

        def report(done_count: int, total_count: int) -> None:
            if self.cancelled.is_set():
                raise _CancelledError
            before = part * total_count
            self.progress = Progress(before + done_count, self.part_count * total_count)

        return report


async def run_with_progress(
    tracker: ProgressTracker, work: Callable[[], T]
) -> AsyncGenerator[Progress | T]:
    """Run work in a thread; yield its progress every second, and its result at the end.

    Closing the generator stops the work and waits until it ends, at most one block later.
    """
    future = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        while not (await asyncio.wait({future}, timeout=_PROGRESS_SECONDS))[0]:
            yield tracker.progress
        yield future.result()
    finally:
        tracker.cancelled.set()
        await asyncio.wait({future})
        if not future.cancelled():
            future.exception()  # or asyncio logs that nobody asked for it
