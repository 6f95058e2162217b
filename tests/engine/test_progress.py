"""Work in a thread that nobody waits for any more."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import aclosing

import pytest

from thingsvision_server.engine import progress


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
        async with aclosing(progress.run_with_progress(tracker, work)) as states:
            await anext(states)

    asyncio.run(leave_early())
    gc.collect()
    assert has_ended.is_set()
    assert caplog.messages == []
