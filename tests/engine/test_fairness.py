"""Passes, decodes and computations are shared over people first, then over their requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from support.batching import CORES, LIMITS, MAX_BATCH, Bench, put, read
from support.serving import open_sources
from thingsvision_server.access.person import act_as, person_of_peer
from thingsvision_server.backends.modules import Structure
from thingsvision_server.engine.fairness.order import FairOrder
from thingsvision_server.engine.fairness.pool import FairPool
from thingsvision_server.engine.fairness.turns import CancelledWorkError, Turns
from thingsvision_server.engine.models.loading import LoadedModel, ModelLoader
from thingsvision_server.engine.passes.batcher import Batcher
from thingsvision_server.engine.passes.lanes import DeviceLanes
from thingsvision_server.engine.passes.stream import BatchStream, FeatureRows
from thingsvision_server.monitoring.metrics import Metrics
from thingsvision_server.sources.base import ModelKey, Random

EARLY = "conv1.2"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoadedModel, Structure]]:
    lanes = DeviceLanes("cpu", CORES)
    sources = open_sources(tmp_path_factory.mktemp("weights"))
    loader = ModelLoader(sources, lanes, LIMITS, Metrics())
    key = ModelKey("torchvision", "shufflenet_v2_x0_5", Random(0))
    yield loader.load(key), loader.structure(key)
    lanes.close()


class Office:
    """A device that several people use, and the order in which their passes ended."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ended: list[str] = []
        self.images: Counter[str] = Counter()
        self._readers: list[asyncio.Task[None]] = []
        self._open = ExitStack()

    def ask(self, person: str, images: int, batch_size: int = MAX_BATCH) -> asyncio.Task[None]:
        """Open a request of a person, whose images are decoded, and read its rows."""
        with act_as(person_of_peer(person)):
            opened = self.bench.open(self.bench.taps(EARLY), batch_size)
            stream = self._open.enter_context(opened)
        put(stream, range(images))
        reader = asyncio.create_task(self._read(person, stream))
        self._readers.append(reader)
        return reader

    async def _read(self, person: str, stream: BatchStream) -> None:
        async for rows in stream.results():
            self.ended.append(person)
            if isinstance(rows, FeatureRows):
                self.images[person] += len(rows.images)

    async def read_slowly(self, person: str, stream: BatchStream, count: int) -> None:
        """Have one image of a person ready at a time."""
        rows = stream.results()
        for number in range(count):
            put(stream, [number], end=False)
            await anext(rows)
            self.ended.append(person)
        await rows.aclose()

    async def passes(self, count: int) -> None:
        """Wait until so many passes more have ended."""
        wanted = len(self.ended) + count
        async with asyncio.timeout(60):
            while len(self.ended) < wanted:
                await asyncio.sleep(0.001)

    async def all_done(self) -> list[str]:
        """Wait for all rows; return whose pass ended when."""
        await asyncio.wait_for(asyncio.gather(*self._readers), 60)
        return self.ended

    def close(self) -> None:
        self._open.close()
        self.bench.lanes.close()


@pytest.fixture
async def office(loaded: tuple[LoadedModel, Structure]) -> AsyncIterator[Office]:
    opened = Office(Bench(*loaded))
    yield opened
    opened.close()


def longest_wait(ended: list[str], person: str, others: str) -> int:
    """Return the most passes of others in a row while a person had images to run."""
    last = max(place for place, one in enumerate(ended) if one == person)
    runs = "".join(ended[:last]).split(person)
    return max(len([one for one in run if one in others]) for run in runs)


async def test_a_single_image_waits_for_the_pass_that_runs_and_no_other(office: Office) -> None:
    for _ in range(3):
        office.ask("a", 40)
    await office.passes(6)
    before = len(office.ended)
    await asyncio.wait_for(office.ask("b", 1, 1), 60)
    # The pass that ran, and the rows of one that had ended but were not read yet.
    assert office.ended[before:].index("b") <= 2


async def test_a_single_image_waits_for_one_pass_of_each_person_at_most(office: Office) -> None:
    people = "acde"
    for person in people:
        office.ask(person, 40)
    await office.passes(8)
    before = len(office.ended)
    await asyncio.wait_for(office.ask("b", 1, 1), 60)
    assert office.ended[before:].index("b") <= 1 + len(people)


async def test_fifty_requests_of_a_person_gain_nothing(office: Office) -> None:
    for _ in range(50):
        office.ask("a", MAX_BATCH)
    await office.passes(3)
    office.ask("b", 20 * MAX_BATCH)
    ended = await office.all_done()
    first, last = ended.index("b"), len(ended) - ended[::-1].index("b")
    shared = ended[first:last]
    assert shared.count("a") <= 1.35 * shared.count("b") + 2


async def test_who_has_few_images_ready_takes_nobody_along_past_others(office: Office) -> None:
    """A batch that is led with one image has room, but not for whoever has had most."""
    for size in (0, MAX_BATCH, 1):  # the first passes of each kind take long
        await office.ask("warm", MAX_BATCH, size)
    office.ask("a", 80, 0)
    office.ask("c", 80, MAX_BATCH)
    forward = office.bench.taps(EARLY)
    with act_as(person_of_peer("b")), office.bench.open(forward, 0) as slow:
        reader = asyncio.create_task(office.read_slowly("b", slow, 25))
        await asyncio.wait_for(reader, 60)
    images = {name: office.images[name] for name in "ac"}
    assert images["a"] <= 1.5 * images["c"] + 2 * MAX_BATCH, images
    assert images["a"] >= images["c"] / 1.5 - 2 * MAX_BATCH, images


async def test_who_has_few_images_ready_takes_others_along_if_nobody_waits(office: Office) -> None:
    office.ask("a", 40, 0)
    with act_as(person_of_peer("b")), office.bench.open(office.bench.taps(EARLY), 0) as slow:
        await asyncio.wait_for(office.read_slowly("b", slow, 8), 60)
    await office.all_done()
    assert office.bench.pass_count <= 40 / MAX_BATCH + 4, "no pass was half empty"


async def test_many_calls_of_one_image_gain_nothing(office: Office) -> None:
    """Passes of one image are short: a person who sends them one by one has more passes."""
    big = office.ask("a", 30 * MAX_BATCH)

    async def small_calls() -> int:
        count = 0
        while not big.done():
            await office.ask("b", 1, 1)
            count += 1
        return count

    count = await asyncio.wait_for(small_calls(), 60)
    used = office.bench.metrics.people.copy()
    assert count >= 10
    assert used["b"].device_seconds <= 1.5 * used["a"].device_seconds


async def test_requests_of_one_person_take_turns(office: Office) -> None:
    office.ask("a", 40)
    await office.passes(2)
    small = office.ask("a", MAX_BATCH)
    before = len(office.ended)
    await asyncio.wait_for(small, 60)
    assert len(office.ended) - before <= 4


async def test_models_share_the_device_by_person(
    loaded: tuple[LoadedModel, Structure], office: Office
) -> None:
    other = Bench(*loaded)
    other.lanes.close()
    other.batcher = Batcher(loaded[0].model, office.bench.lanes, LIMITS, Metrics())
    for _ in range(4):
        office.ask("a", 60)
    await office.passes(3)
    before = len(office.ended)
    with act_as(person_of_peer("b")), other.open(other.taps(EARLY), MAX_BATCH) as stream:
        put(stream, range(10 * MAX_BATCH))
        await read(stream)
    assert len(office.ended) - before <= 16, "b had half of the passes, though a had four requests"


async def test_short_passes_share_the_device_evenly_with_long_ones_of_another_model(
    loaded: tuple[LoadedModel, Structure], office: Office
) -> None:
    """Whoever's pass has ended is asked for the next, before others have the lane for long."""
    other = Bench(*loaded)
    other.lanes.close()
    other.batcher = Batcher(loaded[0].model, office.bench.lanes, LIMITS, Metrics())
    for size in (1, MAX_BATCH):  # the first passes of each kind take long
        await office.ask("warm", MAX_BATCH, size)
    office.ask("long", 200, MAX_BATCH)
    await office.passes(2)
    before = office.images["long"]
    with act_as(person_of_peer("short")), other.open(other.taps(EARLY), 1) as stream:
        put(stream, range(40))
        await read(stream)
    # A pass of one image takes longer for each image than a pass of four.
    assert office.images["long"] - before <= 3 * 40


def test_whoever_was_away_saves_up_nothing() -> None:
    order = FairOrder()
    busy, rare = order.open("busy"), order.open("rare")
    for _ in range(100):
        order.begin(busy, 1.0)
        order.end(busy, 0.0)
    turns = ""
    for _ in range(10):
        account = min((rare, busy), key=order.rank)
        turns += "r" if account is rare else "b"
        order.begin(account, 1.0)
        order.end(account, 0.0)
    assert turns.count("r") in {5, 6}
    assert turns[0] == "r"


def test_who_has_nothing_ready_for_a_moment_keeps_what_is_due() -> None:
    """A long piece of another's begins in that moment; the clock of who is served is ahead then."""
    order = FairOrder()
    short, long, longer = (order.open(name) for name in ("short", "long", "longer"))
    for account in (long, longer, short):
        order.rank(account)
        order.begin(account, 4.0 if account is not short else 0.1)
        order.end(account, 0.0)
    order.begin(long, 4.0)  # nothing of `short` was ready
    order.end(long, 0.0)
    passes = 0
    while min((short, long, longer), key=order.rank) is short:
        order.begin(short, 0.1)
        order.end(short, 0.0)
        passes += 1
    assert 35 <= passes <= 45, "as many seconds as the others have had"


def test_what_came_along_moves_nobody_elses_clock() -> None:
    order = FairOrder()
    greedy, modest = order.open("greedy"), order.open("modest")
    order.begin(greedy, 9.0)
    order.begin(modest, 1.0)
    order.begin(greedy, 1.0, leads=False)
    assert min((greedy, modest), key=order.rank) is modest
    late = order.open("late")
    assert min((greedy, modest, late), key=order.rank) is late


def test_a_person_who_leaves_is_forgotten_when_others_have_caught_up() -> None:
    order = FairOrder()
    for number in range(1000):
        visitor = order.open(f"visitor {number}")
        order.begin(visitor, 1.0)
        order.end(visitor, 0.0)
        order.close(visitor)
    assert order.person_count <= 2
    other, greedy = order.open("other"), order.open("greedy")
    order.begin(greedy, 100.0)
    order.end(greedy, 0.0)
    order.close(greedy)
    again = order.open("greedy")
    assert min((again, other), key=order.rank) is other


async def test_decodes_are_shared_by_person() -> None:
    pool, done, hold = FairPool(1, "decode"), [], threading.Event()

    def work(person: str) -> None:
        hold.wait(10)
        done.append(person)

    with pool.open("a") as submit, pool.open("a") as another, pool.open("b") as other:
        futures = [submit(lambda: work("a")) for _ in range(50)]
        futures += [another(lambda: work("a")) for _ in range(50)]
        futures += [other(lambda: work("b")) for _ in range(2)]
        dropped = [submit(lambda: work("dropped")) for _ in range(5)]
        for future in dropped:
            future.cancel()
        await asyncio.sleep(0)
        hold.set()
        await asyncio.wait_for(asyncio.gather(*futures), 30)
    assert "b" in done[:2]
    assert done[:8].count("b") == 2
    assert "dropped" not in done
    with pytest.raises(ZeroDivisionError):
        await pool.run("a", lambda: 1 // 0)
    pool.close()


async def test_a_person_is_charged_for_work_that_began_after_the_request_had_ended() -> None:
    pool, hold = FairPool(1, "decode"), threading.Event()
    with pool.open("a") as keep:
        holding = keep(partial(hold.wait, 10))
        with pool.open("b") as submit:
            future = submit(partial(time.sleep, 0.02))
        hold.set()
        await asyncio.gather(holding, future)
        again, late = pool._order.open("b"), pool._order.open("c")
        assert min((again, late), key=pool._order.rank) is late
    pool.close()


async def test_a_request_that_has_ended_may_submit_once_more() -> None:
    """An image that waited for room is decoded after the last one was submitted."""
    pool = FairPool(1, "decode")
    with pool.open("a") as submit:
        await submit(partial(time.sleep, 0.001))
    for _ in range(3):
        assert await submit(lambda: "decoded") == "decoded"
        assert await pool.run("b", lambda: "other") == "other"
    assert not any(person.accounts for person in pool._order._people.values())
    pool.close()


async def test_computations_take_turns_at_the_end_of_a_block() -> None:
    turns, blocks, ready = Turns(width=1), [], threading.Barrier(2)

    def compute(person: str, count: int) -> None:
        with turns.take(person, threading.Event()) as pause:
            for _ in range(count):
                blocks.append(person)
                if len(blocks) == 1:
                    ready.wait(10)
                    while not turns._waiting:
                        pass
                pause()

    first = asyncio.get_running_loop().run_in_executor(turns.threads, compute, "a", 200)
    await asyncio.to_thread(ready.wait, 10)
    await asyncio.to_thread(compute, "b", 3)
    await first
    assert blocks.index("b") <= 2, "b waited for the end of a's block"


async def test_a_computation_that_waits_is_cancelled() -> None:
    turns, cancelled, hold = Turns(width=1), threading.Event(), threading.Event()

    def keep() -> None:
        with turns.take("a", threading.Event()):
            hold.wait(10)

    def wait() -> None:
        with turns.take("b", cancelled):
            raise AssertionError("its turn never came")

    keeping = asyncio.get_running_loop().run_in_executor(turns.threads, keep)
    waiting = asyncio.get_running_loop().run_in_executor(turns.threads, wait)
    cancelled.set()
    with pytest.raises(CancelledWorkError):
        await asyncio.wait_for(waiting, 5)
    hold.set()
    await keeping
