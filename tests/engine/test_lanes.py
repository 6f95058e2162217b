"""Memory that is kept for passes is released after an idle time, and never during work."""

from __future__ import annotations

import asyncio

import pytest

from thingsvision_server.engine.passes import lanes
from thingsvision_server.engine.passes.lanes import Cores, DeviceLanes


def test_idle_lanes_are_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "IDLE_SECONDS", 0.5)
    told: list[bool] = []

    async def work() -> None:
        device = DeviceLanes("cpu", Cores(2, lambda _: None), 2, on_idle=lambda: told.append(True))
        first, second = await device.turn(), await device.turn()
        first.end()
        await asyncio.sleep(0.7)
        assert not told, "one of two lanes was at work"
        second.end()
        await asyncio.sleep(0.1)
        third = await device.turn()
        await asyncio.sleep(0.7)
        assert not told, "it had work again"
        third.end()
        while not told:  # pytest-timeout ends what waits for ever
            await asyncio.sleep(0.05)
        (await device.turn()).end()
        device.close()
        await asyncio.sleep(0.7)
        assert told == [True]

    asyncio.run(work())
