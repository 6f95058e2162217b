"""Work in threads, which end with it; some of it nobody waits for any more."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

import pytest

from thingsvision_server.engine import progress
from thingsvision_server.engine.fairness.turns import Turns
from thingsvision_server.threads import BriefThreads


def test_cancelled_work_ends_and_leaves_no_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_PROGRESS_SECONDS", 0.01)
    tracker, has_ended = progress.ProgressTracker(part_count=1), threading.Event()

    def work() -> None:
        report = tracker.on_block(0)
        try:
            for block in range(10**9):
                report(block, 10**9)
        finally:
            has_ended.set()

    async def leave_early() -> None:
        async with aclosing(progress.run_with_progress(tracker, work, Turns())) as states:
            await anext(states)

    asyncio.run(leave_early())
    gc.collect()
    assert has_ended.is_set()
    assert caplog.messages == []


async def _compute(turns: Turns, work: Callable[[], int]) -> int:
    async with aclosing(
        progress.run_with_progress(progress.ProgressTracker(1), work, turns)
    ) as states:
        async for state in states:
            if isinstance(state, int):
                return state
    raise AssertionError("it ended without a result")


async def test_threads_of_computations_end_with_them() -> None:
    turns, everybody = Turns(width=8), threading.Barrier(8)
    works = [partial(everybody.wait, 30) for _ in range(8)]
    assert sorted(await asyncio.gather(*(_compute(turns, work) for work in works))) == [*range(8)]
    deadline = time.monotonic() + 30
    while any(thread.name == "analysis" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "threads stay without work"
        await asyncio.sleep(0.01)


async def test_computations_beyond_the_most_threads_wait() -> None:
    threads, loop = BriefThreads(2, "brief"), asyncio.get_running_loop()
    places = threading.Semaphore(2)

    def work() -> None:
        assert places.acquire(blocking=False), "a third thread works"
        time.sleep(0.001)
        places.release()

    await asyncio.gather(*(loop.run_in_executor(threads, work) for _ in range(50)))


async def test_what_prepares_a_thread_may_fail() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(BriefThreads(1, "brief", lambda: 1 / 0), print)
