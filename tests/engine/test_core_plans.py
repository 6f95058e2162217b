"""How many cores a batch gets: a function of numbers alone, and turns in the order of arrival."""

from __future__ import annotations

import asyncio
import time

import pytest

from thingsvision_server.engine.passes.core_pool import CorePool, Gap, Wish
from thingsvision_server.engine.passes.cores import CorePlan, plan_cores
from thingsvision_server.engine.passes.lanes import Cores, DeviceLanes
from thingsvision_server.engine.passes.pass_times import PassTimes

PLANS = [
    # machine: cores, lanes; job: batch size, images; cores of each batch
    ((2, 2), (32, 32), [2]),
    ((2, 2), (32, 1), [2]),
    # On a core each, the larger batch would take the time of 32 images; in turn it is that of 27.
    ((2, 2), (32, 48), [2, 2]),
    ((2, 2), (32, 60), [1, 1]),
    ((2, 2), (32, 64), [1, 1]),
    ((2, 2), (32, 92), [1, 1, 2]),
    ((2, 2), (32, 96), [1, 1, 2]),
    ((2, 2), (32, 128), [1, 1, 1, 1]),
    ((2, 2), (32, 129), [1, 1, 1, 1, 2]),
    ((2, 2), (1, 3), [1, 1, 2]),
    ((16, 4), (32, 32), [16]),
    ((16, 4), (32, 64), [8, 8]),
    ((16, 4), (32, 96), [5, 5, 5]),
    ((16, 4), (32, 128), [4, 4, 4, 4]),
    ((16, 4), (32, 160), [4, 4, 4, 4, 16]),
    ((16, 4), (32, 130), [4, 4, 4, 4, 16]),
    ((6, 4), (8, 16), [3, 3]),
    ((6, 4), (8, 24), [2, 2, 2]),
    ((1, 1), (32, 40), [1, 1]),
    ((8, 1), (32, 40), [8, 8]),
]


@pytest.mark.parametrize(("machine", "job", "cores"), PLANS)
def test_the_last_batches_share_all_cores(
    machine: tuple[int, int], job: tuple[int, int], cores: list[int]
) -> None:
    batch_size, image_count = job
    plan = plan_cores(*machine, batch_size=batch_size, image_count=image_count)
    assert [plan.at(place) for place in range(0, image_count, batch_size)] == cores
    assert plan.tail_start % batch_size == 0


def test_a_plan_of_another_machine_keeps_its_cores_if_there_are_as_many() -> None:
    plan = CorePlan(4, 64, 16)
    assert plan.within(16, 2) == plan
    assert plan.within(8, 4) == CorePlan(4, 64, 8)
    assert plan.within(2, 1) == CorePlan(2, 64, 2)
    assert CorePlan(0).within(8, 2) == CorePlan(2), "a plan that was not told is that of a lane"


async def started(*coroutines: object) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(one) for one in coroutines]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return tasks


def wants(cores: int) -> Wish:
    """Return the wish of work that takes long."""
    return lambda gap: None if gap.is_limited else ((), cores)


async def test_who_wants_all_cores_is_not_passed_by_others() -> None:
    pool = CorePool(2, 2)
    first = await pool.take(wants(1))
    wide, narrow = await started(pool.take(wants(2)), pool.take(wants(1)))
    await asyncio.sleep(0)
    assert not wide.done(), "a core is in use"
    assert not narrow.done(), "a core is free, but it is not its turn"
    assert not pool.exchange(first, 2), "nor can the first have more before them"
    pool.give_back(first)
    grant = await wide
    assert not narrow.done()
    pool.give_back(grant)
    await narrow


async def test_cores_are_lent_while_somebody_waits_for_more_of_them() -> None:
    pool, gaps = CorePool(2, 2), list[Gap]()

    def short(gap: Gap) -> tuple[tuple[float, ...], int] | None:
        gaps.append(gap)
        return ((1,), 1) if gap.seconds > 30 else None

    long = await pool.take(wants(1))
    long.ends_at = time.monotonic() + 60
    wide, one, two = await started(pool.take(wants(2)), pool.take(wants(1)), pool.take(short))
    lent = await two
    assert 50 < lent.gap.seconds <= 60
    assert not wide.done()
    assert not one.done(), "what takes long would keep the first waiting"
    pool.give_back(lent)
    long.ends_at = time.monotonic() + 20
    (more,) = await started(pool.take(short))
    assert not more.done()
    assert 10 < gaps[-1].seconds <= 20
    long.ends_at = time.monotonic() - 1
    count = len(gaps)
    more.cancel()
    await asyncio.sleep(0)
    assert len(gaps) == count, "nothing is known of a pass that is late"
    pool.give_back(long)
    assert (await wide).cores == 2


async def test_what_is_lent_never_makes_the_first_wait_longer() -> None:
    """The first needs three cores: those of the pass that ends next, not of the last to end."""
    pool, gaps = CorePool(4, 4), list[Gap]()
    for seconds, cores in ((10, 2), (60, 1)):
        grant = await pool.take(wants(cores))
        grant.ends_at = time.monotonic() + seconds

    def look(gap: Gap) -> tuple[tuple[float, ...], int] | None:
        gaps.append(gap)
        return None if gap.is_limited else ((1,), 1)

    await started(pool.take(wants(3)), pool.take(look))
    assert gaps[-1].cores == 1
    assert gaps[-1].seconds <= 10


async def test_who_leaves_while_waiting_keeps_nothing() -> None:
    pool = CorePool(2, 2)
    first = await pool.take(wants(1))
    wide, narrow = await started(pool.take(wants(2)), pool.take(wants(1)))
    wide.cancel()
    second = await narrow
    assert pool.user_count == 2
    (last,) = await started(pool.take(wants(2)))
    pool.give_back(first)
    pool.give_back(second)
    last.cancel()  # it has its cores, but has not been told yet
    with pytest.raises(asyncio.CancelledError):
        await last
    assert pool.user_count == 0
    await asyncio.wait_for(pool.take(wants(2)), 1)


async def test_cores_are_exchanged_if_nobody_has_to_wait_for_them() -> None:
    pool = CorePool(4, 4)
    grant = await pool.take(wants(1))
    assert pool.exchange(grant, 4)
    (waiting,) = await started(pool.take(wants(2)))
    assert not waiting.done()
    assert pool.exchange(grant, 2)
    await waiting


async def test_lanes_of_a_machine_with_fewer_cores_run_side_by_side() -> None:
    lanes = DeviceLanes("cuda:0", Cores(1, lambda _: None), 2)
    for turn in [await asyncio.wait_for(lanes.turn(), 1) for _ in range(2)]:
        turn.end()
    lanes.close()


async def test_no_more_turns_than_lanes() -> None:
    lanes = DeviceLanes("cpu", Cores(10, lambda _: None), 4)
    turns = [await lanes.turn(cores) for cores in (2, 3, 1, 2)]
    fifth = asyncio.create_task(lanes.turn())
    await asyncio.sleep(0)
    assert not fifth.done()
    turns.pop().end()
    turns.append(await fifth)
    assert [turn.cores for turn in turns] == [2, 3, 1, 2]
    for turn in turns:
        turn.end()
    wide = await lanes.turn(64)
    assert wide.cores == 10
    assert wide.use(0)
    assert wide.cores == 2
    wide.end()
    lanes.close()


def test_a_pass_is_expected_to_take_what_one_of_about_its_size_took() -> None:
    times = PassTimes()
    assert (times.expect(64), times.most_images(10, 64)) == (0, 0), "not known yet"
    times.observe(64, 0.5)
    assert times.expect(1) == 0.5
    times.observe(1, 2.0)
    assert [times.expect(count) for count in (1, 2, 60, 64, 100)] == [2.0, 2.0, 0.5, 0.5, 0.5]
    assert [times.most_images(seconds, 64) for seconds in (100, 16, 1.9, 0)] == [64, 32, 0, 0]
