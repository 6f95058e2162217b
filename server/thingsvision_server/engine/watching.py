"""Long work in a thread: it tells how far it is, and ends when nobody waits; knows no work."""

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
    """Blocks of work done, of all parts."""

    done_count: int
    total_count: int


class _CancelledError(Exception):
    """Nobody waits for the work any more."""


@dataclass
class Watch:
    """How far work is, and whether anybody waits for it."""

    part_count: int
    progress: Progress = field(default=Progress(0, 0), init=False)
    cancelled: threading.Event = field(default_factory=threading.Event, init=False)

    def on_block(self, part: int) -> Callable[[int, int], None]:
        """Return what the work of a part calls after each block, with those done and in all."""

        def told(done_count: int, total_count: int) -> None:
            if self.cancelled.is_set():
                raise _CancelledError
            before = part * total_count
            self.progress = Progress(before + done_count, self.part_count * total_count)

        return told


async def watched(watch: Watch, work: Callable[[], T]) -> AsyncGenerator[Progress | T]:
    """Yield progress every second, and at last the result of work in a thread.

    Close the generator to stop: the work ends within a block, before this returns.
    """
    future = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        while not (await asyncio.wait({future}, timeout=_PROGRESS_SECONDS))[0]:
            yield watch.progress
        yield future.result()
    finally:
        watch.cancelled.set()
        await asyncio.wait({future})
