"""What the calls of one person may hold: each can go on, and all together stay within a limit."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from thingsvision_server.engine.fairness.call_ends import CallEnds
from thingsvision_server.engine.fairness.in_flight import Held, InFlight, Load
from thingsvision_server.engine.fairness.order import FairOrder
from thingsvision_server.errors import TooManyCallsError

BATCH = Load(4, 400)


async def begin(held: Held, count: int) -> None:
    for _ in range(count):
        await held.begin_image()


async def waits(task: asyncio.Task[None]) -> bool:
    await asyncio.sleep(0.01)
    return not task.done()


@pytest.mark.parametrize(
    ("most", "option"), [(Load(8, 10**9), "--person-images"), (Load(99, 800), "--person-memory")]
)
async def test_a_call_for_whose_batch_there_is_no_room_is_refused(most: Load, option: str) -> None:
    limit = InFlight(most)
    with limit.open("ada", BATCH), limit.open("ada", BATCH):
        with pytest.raises(TooManyCallsError, match=option) as refused, limit.open("ada", BATCH):
            pass
        assert refused.value.subject == "ada"
        assert refused.value.retry_seconds > 0
        with limit.open("bob", BATCH):
            pass
    with limit.open("ada", BATCH), limit.open("ada", BATCH):
        pass


async def test_a_batch_larger_than_the_limit_runs_alone() -> None:
    limit = InFlight(Load(2, 10))
    with limit.open("ada", BATCH) as held:
        await asyncio.wait_for(begin(held, 4), 5)
        with pytest.raises(TooManyCallsError), limit.open("ada", Load(1, 1)):
            pass


async def test_a_call_waits_with_its_next_batch_until_there_is_room() -> None:
    limit = InFlight(Load(12, 10**9))
    with ExitStack() as stack:
        first, second = (stack.enter_context(limit.open("ada", BATCH)) for _ in range(2))
        await asyncio.wait_for(begin(first, 8), 5)
        waiting = asyncio.create_task(begin(second, 8))
        assert await waits(waiting)
        first.end_images(3)
        assert await waits(waiting), "the first batch was not read to its end"
        first.end_images(1)
        await asyncio.wait_for(waiting, 5)
    with limit.open("ada", BATCH) as held:
        await asyncio.wait_for(begin(held, 12), 5)


async def test_calls_that_fill_the_limit_go_on_with_the_batch_that_each_has() -> None:
    """Also if one waits for another's rows: no call needs what another holds."""
    limit = InFlight(Load(8, 10**9))
    with limit.open("ada", BATCH) as one, limit.open("ada", BATCH) as other:
        await begin(other, 4)
        going_on = asyncio.create_task(begin(one, 40))
        for _ in range(9):
            assert await waits(going_on)
            one.end_images(4)
        await asyncio.wait_for(going_on, 5)
        assert limit._people["ada"].load == BATCH * 2


async def test_a_call_that_is_cancelled_while_it_waits_holds_nothing() -> None:
    limit = InFlight(Load(8, 10**9))
    with limit.open("ada", BATCH) as one, limit.open("ada", BATCH) as other:
        waiting = [asyncio.create_task(begin(held, 8)) for held in (one, other)]
        assert await waits(waiting[0])
        waiting[0].cancel()
        other.end_images(4)
        one.end_images(4)
        await asyncio.wait(waiting)
        assert limit._people["ada"].load == BATCH * 2
    assert not limit._people


def test_who_is_refused_is_told_when_a_call_is_likely_to_end() -> None:
    ends = CallEnds()
    assert ends.expected_seconds(3) == 2.0, "nothing is known"
    for _ in range(40):
        ends.observe(120.0)
    assert ends.expected_seconds(4) == pytest.approx(30.0)
    assert ends.expected_seconds(1) == 60.0
    assert ends.expected_seconds(10_000) == 1.0


async def test_a_refusal_says_how_long_calls_have_taken() -> None:
    limit = InFlight(Load(8, 10**9))
    with limit.open("ada", BATCH):
        limit._people["ada"].ends.observe(20.0)
        with limit.open("ada", BATCH):
            with pytest.raises(TooManyCallsError) as refused, limit.open("ada", BATCH):
                pass
            assert refused.value.retry_seconds == 10.0


def test_who_has_used_the_hour_comes_after_all_others_until_it_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("thingsvision_server.engine.fairness.hourly.monotonic", lambda: now[0])
    order = FairOrder(hourly_seconds=60)
    greedy, modest = order.open("greedy"), order.open("modest")
    for account, seconds in ((greedy, 61.0), (modest, 59.0)):
        order.begin(account, seconds)
        order.end(account, 0.0)
    order.begin(modest, 3.0)  # ahead of `greedy` by clock, but within the hour's seconds so far
    order.end(modest, -2.5)
    assert min((greedy, modest), key=order.rank) is modest
    order.close(greedy)
    again = order.open("greedy")
    assert min((again, modest), key=order.rank) is modest, "a new request does not help"
    now[0] += 120  # two seconds are forgotten
    order.begin(modest, 10.0)
    order.end(modest, 0.0)
    assert min((again, modest), key=order.rank) is again
    now[0] += 3600
    assert not order.rank(modest)[0]
    unlimited = FairOrder()
    account = unlimited.open("greedy")
    unlimited.begin(account, 1e6)
    assert not unlimited.rank(account)[0]
