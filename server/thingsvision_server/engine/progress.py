"""Runs work in a thread, reports its progress, and stops it when nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ..access.person import caller_name
from ..monitoring.tracing import current_trace, span
from .fairness.turns import CancelledWorkError, Turns

T = TypeVar("T")

_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """Finished blocks and all blocks, over all parts."""

    done_count: int
    total_count: int


@dataclass
class ProgressTracker:
    """The progress of work in a thread, and whether the work is cancelled."""

    part_count: int
    progress: Progress = field(default=Progress(0, 0), init=False)
    cancelled: threading.Event = field(default_factory=threading.Event, init=False)
    pause: Callable[[], None] = field(default=lambda: None, init=False)
    """Lets others have their turn; called after each block."""

    def on_block(self, part: int) -> Callable[[int, int], None]:
        """Return what a part calls after each block, with its finished and its total blocks.

        Once the work is cancelled, the call raises, which ends the work.
        """

        def report(done_count: int, total_count: int) -> None:
            if self.cancelled.is_set():
                raise CancelledWorkError
            before = part * total_count
            self.progress = Progress(before + done_count, self.part_count * total_count)
            self.pause()

        return report


async def run_with_progress(
    tracker: ProgressTracker, work: Callable[[], T], turns: Turns
) -> AsyncGenerator[Progress | T]:
    """Run work in a thread; yield its progress every second, and its result at the end.

    The work takes turns with that of other people, and waits for its first. Closing the generator
    stops it and waits until it ends, at most one block later.
    """
    person, trace = caller_name(), current_trace()

    def run() -> T:
        with (
            turns.take(person, tracker.cancelled) as tracker.pause,
            span("compute", parent=trace, parts=tracker.part_count),
        ):
            return work()

    future = asyncio.get_running_loop().run_in_executor(turns.threads, run)
    try:
        while not (await asyncio.wait({future}, timeout=_PROGRESS_SECONDS))[0]:
            yield tracker.progress
        yield future.result()
    finally:
        tracker.cancelled.set()
        await asyncio.wait({future})
        if not future.cancelled():
            future.exception()  # or asyncio logs that nobody asked for it
