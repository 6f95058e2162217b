"""Residency over real loads: leases, waiters, evictions, and what two requests do to each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from support.model_house import (
    PATIENCE_SECONDS,
    SQUEEZENET_BYTES,
    House,
    resident_names,
    squeezenet,
    until,
    visit,
    waits,
)
from thingsvision_server.errors import (
    ModelInUseError,
    ModelTooLargeError,
    NotResidentError,
    WeightsMismatchError,
    WeightsMissingError,
)
from thingsvision_server.sources.base import ModelKey, Pretrained, Uploaded


async def test_many_who_wait_for_one_model_load_it_once(house: Any) -> None:
    async with house(2) as open_house:
        open_house.door.opened.clear()
        visits = [asyncio.create_task(visit(open_house, squeezenet(0))) for _ in range(8)]
        await until(lambda: bool(open_house.door.came))
        open_house.door.opened.set()
        await asyncio.gather(*visits)
        assert open_house.door.came == [squeezenet(0)]
        assert open_house.residency.used_bytes == SQUEEZENET_BYTES


async def test_loads_of_different_models_run_side_by_side(house: Any) -> None:
    async with house(2) as open_house:
        open_house.door.opened.clear()
        visits = [asyncio.create_task(visit(open_house, squeezenet(n))) for n in range(2)]
        # Neither gets through the door before both stand at it.
        await until(lambda: len(open_house.door.came) == 2)
        assert open_house.residency.reserved_bytes == 2 * SQUEEZENET_BYTES
        open_house.door.opened.set()
        await asyncio.gather(*visits)


async def test_a_resident_model_is_used_while_another_loads(house: Any) -> None:
    async with house(2) as open_house:
        await visit(open_house, squeezenet(0))
        open_house.door.opened.clear()
        loading = asyncio.create_task(visit(open_house, squeezenet(1)))
        await until(lambda: len(open_house.door.came) == 2)
        await visit(open_house, squeezenet(0))
        assert not loading.done()
        open_house.door.opened.set()
        await loading


@pytest.mark.parametrize("leaving_count", [1, 3])
async def test_a_cancelled_waiter_does_not_stop_the_load(house: Any, leaving_count: int) -> None:
    async with house(2) as open_house:
        open_house.door.opened.clear()
        visits = [asyncio.create_task(visit(open_house, squeezenet(0))) for _ in range(3)]
        await until(lambda: bool(open_house.door.came))
        for leaving in visits[:leaving_count]:
            leaving.cancel()
        await asyncio.wait(visits[:leaving_count])
        open_house.door.opened.set()
        assert all(len(rows) == 1 for rows in await asyncio.gather(*visits[leaving_count:]))
        await visit(open_house, squeezenet(0))
        assert open_house.door.came == [squeezenet(0)]
        assert open_house.residency.residents()[0].lease_count == 0


async def test_a_failed_load_is_reported_to_all_and_tried_again(house: Any, tmp_path: Path) -> None:
    key = ModelKey("torchvision", "squeezenet1_0", Pretrained("IMAGENET1K_V1"))
    async with house(2) as open_house:
        open_house.door.opened.clear()
        visits = [asyncio.create_task(visit(open_house, key)) for _ in range(3)]
        await until(lambda: bool(open_house.door.came))
        open_house.door.opened.set()
        errors = await asyncio.gather(*visits, return_exceptions=True)
        assert [type(error) for error in errors] == [WeightsMissingError] * 3
        assert open_house.residency.reserved_bytes == 0
        assert open_house.count("loads", result="error") == 1

        file = tmp_path / "torchvision" / "squeezenet1_0.IMAGENET1K_V1.pth"
        file.parent.mkdir()
        torch.save(models.squeezenet1_0().state_dict(), file)
        await visit(open_house, key)
        assert open_house.count("loads", result="ok") == 1


async def test_weights_that_do_not_fit_leave_nothing_behind(house: Any, tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    sha256 = "0" * 64
    torch.save({"weight": torch.ones(1)}, tmp_path / "uploads" / sha256)
    async with house(1) as open_house:
        for _ in range(2):
            with pytest.raises(WeightsMismatchError, match="does not fit"):
                await visit(open_house, ModelKey("torchvision", "squeezenet1_0", Uploaded(sha256)))
        await visit(open_house, squeezenet(0))


async def test_a_model_that_never_fits_is_refused_before_any_load(house: Any) -> None:
    async with house(0.5) as open_house:
        with pytest.raises(ModelTooLargeError) as refusal:
            await visit(open_house, squeezenet(0))
        assert f"{SQUEEZENET_BYTES:,} bytes" in str(refusal.value)
        assert f"{open_house.residency.budget_bytes:,} bytes" in str(refusal.value)
        assert not open_house.door.came


async def test_a_model_that_pinned_ones_leave_no_room_for_is_refused(house: Any) -> None:
    async with house(1.5) as open_house:
        await open_house.residency.pin(squeezenet(0), True)
        with pytest.raises(ModelTooLargeError, match=r"pinned models hold .*random:0"):
            await visit(open_house, squeezenet(1))
        with pytest.raises(ModelInUseError, match="pinned"):
            await open_house.residency.unload(squeezenet(0))
        await open_house.residency.pin(squeezenet(0), False)
        await visit(open_house, squeezenet(1))
        assert resident_names(open_house) == {"random:1"}


async def test_whoever_waits_for_room_is_refused_once_a_pin_takes_it(house: Any) -> None:
    async with house(1) as open_house, open_house.residency.lease(squeezenet(0)):
        waiting = asyncio.create_task(visit(open_house, squeezenet(1)))
        await until(lambda: waits(open_house, squeezenet(1)))
        await open_house.residency.pin(squeezenet(0), True)
        with pytest.raises(ModelTooLargeError):
            await waiting


async def test_the_least_recently_used_model_goes_first(house: Any) -> None:
    async with house(3) as open_house:
        for seed in (0, 1, 2, 0, 3):
            await visit(open_house, squeezenet(seed))
        assert resident_names(open_house) == {"random:0", "random:2", "random:3"}
        assert open_house.count("evictions", reason="room") == 1


async def test_a_model_in_use_stays_until_its_lease_is_back(house: Any) -> None:
    async with house(1) as open_house:
        async with open_house.residency.lease(squeezenet(0)):
            waiting = asyncio.create_task(visit(open_house, squeezenet(1)))
            await until(lambda: waits(open_house, squeezenet(1)))
            with pytest.raises(ModelInUseError, match="in use by 1 request"):
                await open_house.residency.unload(squeezenet(0))
            assert open_house.door.came == [squeezenet(0)]
        await waiting
        assert resident_names(open_house) == {"random:1"}


async def test_a_request_beside_an_unload_gets_a_model_that_works(house: Any) -> None:
    async with house(2) as open_house:
        await visit(open_house, squeezenet(0))
        unloading = asyncio.create_task(open_house.residency.unload(squeezenet(0)))
        visiting = asyncio.create_task(visit(open_house, squeezenet(0)))
        assert await unloading == SQUEEZENET_BYTES
        assert len(await visiting) == 1
        assert open_house.residency.used_bytes == SQUEEZENET_BYTES


async def test_two_unloads_at_once_free_a_model_once(house: Any) -> None:
    async with house(2) as open_house:
        await visit(open_house, squeezenet(0))
        unloads = [open_house.residency.unload(squeezenet(0)) for _ in range(2)]
        freed, refusal = await asyncio.gather(*unloads, return_exceptions=True)
        assert freed == SQUEEZENET_BYTES
        assert isinstance(refusal, NotResidentError)
        assert open_house.residency.used_bytes == 0


async def test_the_published_size_of_a_model_survives_its_quick_return(house: Any) -> None:
    async with house(2) as open_house:
        await visit(open_house, squeezenet(0))
        async with _busy(open_house):  # the memory is not freed before the device is
            unloading = asyncio.create_task(open_house.residency.unload(squeezenet(0)))
            await until(lambda: open_house.residency.find(squeezenet(0)) is None)
            async with open_house.residency.lease(squeezenet(0)):
                pass
        await unloading
        sample = {"model": str(squeezenet(0))}
        registry = open_house.metrics.registry
        name = "thingsvision_model_resident_bytes"
        assert registry.get_sample_value(name, sample) == SQUEEZENET_BYTES


@asynccontextmanager
async def _busy(house: House) -> AsyncIterator[None]:
    resident = house.residency.residents()[0]
    assert resident.ready_model
    done = threading.Event()
    work = resident.ready_model.lanes.run(lambda: done.wait(PATIENCE_SECONDS))
    try:
        yield
    finally:
        done.set()
        await work


async def test_closing_beside_a_load_that_makes_room_frees_everything(house: Any) -> None:
    async with house(1) as open_house:
        await visit(open_house, squeezenet(0))
        async with _busy(open_house):
            leaving = asyncio.create_task(visit(open_house, squeezenet(1)))
            await until(lambda: open_house.residency.find(squeezenet(0)) is None)
            leaving.cancel()
            closing = asyncio.create_task(open_house.residency.close())
            await asyncio.sleep(0)
        await closing
        assert open_house.residency.used_bytes == 0


async def test_closing_takes_each_model_once_whoever_evicts_it(house: Any) -> None:
    async with house(1) as open_house:
        await visit(open_house, squeezenet(0))
        closing = asyncio.create_task(open_house.residency.close())
        unloading = asyncio.create_task(open_house.residency.unload(squeezenet(0)))
        await closing
        await asyncio.wait([unloading])
        reasons = ("unload", "shutdown")
        assert sum(open_house.count("evictions", reason=reason) for reason in reasons) == 1
        assert open_house.residency.used_bytes == 0


async def test_passes_evict_idle_models_the_oldest_first_but_none_in_use_or_pinned(
    house: Any,
) -> None:
    async with house(4) as open_house:
        residency = open_house.residency
        for number in range(4):
            await visit(open_house, squeezenet(number))
        await residency.pin(squeezenet(3), pinned=True)
        async with residency.lease(squeezenet(0)):
            assert await residency.evict_idle()
            assert residency.find(squeezenet(1)) is None
            assert await residency.evict_idle()
            assert residency.used_bytes == 2 * SQUEEZENET_BYTES
            assert not await residency.evict_idle()
        assert {one.key for one in residency.residents()} == {squeezenet(0), squeezenet(3)}
