"""What was kept for work goes when there is none for some time, and not in the middle of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from thingsvision_server.engine import lanes
from thingsvision_server.engine.lanes import Cores, DeviceLanes


def test_idle_lanes_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "IDLE_SECONDS", 0.2)
    told: list[bool] = []

    async def work() -> None:
        device = DeviceLanes("cpu", Cores(2, lambda _: None), 2, on_idle=lambda: told.append(True))
        first, second = await device.turn(), await device.turn()
        first.end()
        await asyncio.sleep(0.4)
        assert not told, "one of two lanes was at work"
        second.end()
        await asyncio.sleep(0.1)
        third = await device.turn()
        await asyncio.sleep(0.3)
        assert not told, "it had work again"
        third.end()
        await asyncio.sleep(0.6)
        assert told == [True]
        (await device.turn()).end()
        device.close()
        await asyncio.sleep(0.4)
        assert told == [True]

    asyncio.run(work())


FREED = """
import resource, torch
from thingsvision_server.allocator import give_freed_memory_back, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = {kept}
assert not kept or keep_freed_memory()
for _ in range(3):
    torch.zeros(60_000_000)
before = faults()
for _ in range(10):
    torch.zeros(60_000_000)
print(faults() - before)
give_freed_memory_back()
before = faults()
torch.zeros(60_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_used_again_and_given_back() -> None:
    counts = {}
    for kept in (True, False):
        words = [sys.executable, "-c", FREED.format(kept=kept)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        counts[kept] = [int(line) for line in done.stdout.split()]
    (kept_again, after_giving), (fresh, _) = counts[True], counts[False]
    assert kept_again < fresh / 20
    assert after_giving > 20 * kept_again / 10
