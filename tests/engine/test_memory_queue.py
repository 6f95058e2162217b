"""The queue for memory: who fits is let through, but what gets free is kept for a long wait."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from support.model_house import (
    SQUEEZENET_BYTES,
    House,
    resident_names,
    squeezenet,
    until,
    visit,
    waits,
)
from thingsvision_server.engine.waiting import Waiting
from thingsvision_server.errors import ExhaustedError
from thingsvision_server.sources.base import ModelKey, Random

LARGE = ModelKey("torchvision", "mobilenet_v3_small", Random(0))
"""Takes the room of two SqueezeNets and a bit."""


async def wait_for_memory(house: House, key: ModelKey) -> asyncio.Task[Any]:
    """Return a request for a model that waits for memory."""
    waiting = asyncio.create_task(_hold(house, key))
    await until(lambda: waits(house, key))
    return waiting


async def _hold(house: House, key: ModelKey) -> None:
    async with house.residency.lease(key):
        pass


async def test_a_model_that_fits_passes_models_that_do_not(house: Any) -> None:
    async with house(3) as open_house, AsyncExitStack() as stack:
        for seed in range(2):
            await stack.enter_async_context(open_house.residency.lease(squeezenet(seed)))
        large = await wait_for_memory(open_house, LARGE)
        for seed in (2, 3, 2):
            await asyncio.wait_for(visit(open_house, squeezenet(seed)), 30)
        assert not large.done()
        await stack.aclose()
        await large
        assert open_house.residency.used_bytes <= 3 * SQUEEZENET_BYTES


async def test_idle_models_are_not_evicted_in_vain(house: Any) -> None:
    async with house(3) as open_house:
        await visit(open_house, squeezenet(2))
        residency = open_house.residency
        async with residency.lease(squeezenet(0)), residency.lease(squeezenet(1)):
            large = await wait_for_memory(open_house, LARGE)
            assert "random:2" in resident_names(open_house), "it would not have been enough"
        await large


async def test_what_gets_free_is_kept_for_who_has_waited_long(house: Any) -> None:
    async with house(3, keep_seconds=0.1) as open_house, AsyncExitStack() as stack:
        residency = open_house.residency
        leases = [AsyncExitStack() for _ in range(2)]
        for seed, lease in enumerate(leases):
            await lease.enter_async_context(residency.lease(squeezenet(seed)))
            stack.push_async_callback(lease.aclose)
        large = await wait_for_memory(open_house, LARGE)
        await asyncio.sleep(0.2)
        await visit(open_house, squeezenet(2))  # there was room for it before
        small = await wait_for_memory(open_house, squeezenet(3))
        for lease in leases:
            await lease.aclose()
        await until(lambda: residency.find(LARGE) is not None and not waits(open_house, LARGE))
        await asyncio.gather(large, small)
        came = open_house.door.came
        assert came.index(LARGE) < came.index(squeezenet(3))


async def test_without_a_long_wait_the_small_model_goes_first(house: Any) -> None:
    async with house(3, keep_seconds=60) as open_house, AsyncExitStack() as stack:
        leases = [AsyncExitStack() for _ in range(3)]
        for seed, lease in enumerate(leases):
            await lease.enter_async_context(open_house.residency.lease(squeezenet(seed)))
            stack.push_async_callback(lease.aclose)
        large = await wait_for_memory(open_house, LARGE)
        small = await wait_for_memory(open_house, squeezenet(3))
        await leases[0].aclose()
        await small
        assert not large.done()
        await stack.aclose()
        await large


async def test_who_waits_is_told_place_and_reason(house: Any) -> None:
    async with house(1) as open_house:
        residency, told = open_house.residency, list[Waiting]()

        async def listen(key: ModelKey) -> None:
            resident = residency.begin_lease(key)
            try:
                async with aclosing(residency.wait_until_ready(resident)) as looks:
                    async for waiting in looks:
                        told.append(waiting)
            finally:
                residency.end_lease(resident)

        async with residency.lease(squeezenet(0)):
            first = await wait_for_memory(open_house, squeezenet(1))
            second = asyncio.create_task(listen(squeezenet(2)))
            await until(lambda: bool(told) and told[-1].place == 2)
        await first
        await second
        waiting = next(one for one in told if one.place == 2)
        assert waiting.count == 2
        assert (
            f"random:2 needs {SQUEEZENET_BYTES:,} bytes; 0 of {SQUEEZENET_BYTES:,}"
            in waiting.reason
        )
        assert "in use: torchvision/squeezenet1_0@random:0 (1 request)" in waiting.reason


async def test_who_waits_too_long_is_refused_with_a_time_and_leaves_the_queue(house: Any) -> None:
    async with house(1, wait_seconds=0.2) as open_house:
        async with open_house.residency.lease(squeezenet(0)):
            with pytest.raises(
                ExhaustedError, match=r"within 0.2 s .*in use: .*random:0"
            ) as refusal:
                await visit(open_house, squeezenet(1))
            assert 0.2 <= refusal.value.retry_seconds < 10
            assert open_house.residency.find(squeezenet(1)) is None
            assert not len(open_house.residency.memory.queue)
        await visit(open_house, squeezenet(1))


async def test_a_place_that_nobody_waits_for_any_more_is_given_up(house: Any) -> None:
    async with house(1) as open_house:
        async with open_house.residency.lease(squeezenet(0)):
            leaving = await wait_for_memory(open_house, squeezenet(1))
            leaving.cancel()
            await until(lambda: open_house.residency.find(squeezenet(1)) is None)
            again = await wait_for_memory(open_house, squeezenet(1))
        await again
        assert open_house.door.came == [squeezenet(0), squeezenet(1)]
        assert open_house.count("loads", result="error") == 0


async def test_two_who_wait_for_the_same_model_are_one_load(house: Any) -> None:
    async with house(1) as open_house:
        async with open_house.residency.lease(squeezenet(0)):
            one = await wait_for_memory(open_house, squeezenet(1))
            other = await wait_for_memory(open_house, squeezenet(1))
            one.cancel()
            await asyncio.wait([one])
            assert waits(open_house, squeezenet(1)), "the other still wants it"
        await other
        assert open_house.door.came == [squeezenet(0), squeezenet(1)]
