"""The batcher over a real network: what shares a forward pass, what never does, who comes next.

The test holds the device's turn to say what is ready when a batch is chosen.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from support.batching import CORES, LIMITS, MAX_BATCH, Bench, images, put, read, waiting_device
from support.closeness import assert_close
from support.serving import open_sources
from thingsvision_server.access.person import act_as, person_of_peer
from thingsvision_server.backends.base import BatchRun, RunnableModel
from thingsvision_server.backends.compute_options import ComputeOptions, MemoryFormat
from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.device import core_count, use_cores
from thingsvision_server.engine.models.loading import LoadedModel, ModelLoader
from thingsvision_server.engine.passes.batcher import Batcher
from thingsvision_server.engine.passes.cores import plan_cores
from thingsvision_server.engine.passes.forward import ForwardSpec
from thingsvision_server.engine.passes.lanes import Cores, DeviceLanes
from thingsvision_server.engine.passes.stream import FeatureRows, PreparedImage
from thingsvision_server.inputs import InputSpec
from thingsvision_server.monitoring.metrics import Metrics
from thingsvision_server.sources.base import ModelKey, Random


@pytest.fixture(scope="module")
def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[LoadedModel, Structure]]:
    lanes = DeviceLanes("cpu", CORES)
    sources = open_sources(tmp_path_factory.mktemp("weights"))
    loader = ModelLoader(sources, lanes, LIMITS, Metrics())
    key = ModelKey("torchvision", "squeezenet1_0", Random(0))
    yield loader.load(key), loader.structure(key)
    lanes.close()


@pytest.fixture
async def bench(loaded: tuple[LoadedModel, Structure]) -> AsyncIterator[Bench]:
    before = torch.get_num_threads()
    use_cores(core_count())  # `alone` computes in this thread, as the one lane does
    made = Bench(*loaded)
    yield made
    made.lanes.close()
    use_cores(before)


class EndlessModel:
    """A model as if in another process, whose passes end when they are told to."""

    is_foreign = True

    def __init__(self, model: RunnableModel) -> None:
        self.over = threading.Event()
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, *arguments: Any) -> BatchRun:
        assert self.over.wait(60)
        return self._model.run(*arguments)


def joined(results: list[FeatureRows]) -> np.ndarray[Any, Any]:
    return np.concatenate([rows.arrays[0] for rows in results])


def alone(bench: Bench, seeds: range | list[int], *names: str) -> np.ndarray[Any, Any]:
    return bench.loaded.model.run([torch.stack(images(*seeds))], bench.taps(*names)).rows[0]


async def test_requests_for_the_same_modules_share_a_pass(bench: Bench) -> None:
    same, other = bench.taps(), bench.taps("features.12")
    opened = bench.open
    with opened(same, 0) as one, opened(same, 0) as two, opened(other, 0) as three:
        async with waiting_device(bench):
            put(one, [0, 1])
            put(two, [2, 3])
            put(three, [4])
        results = [await read(stream) for stream in (one, two, three)]
    assert (bench.pass_count, bench.image_count) == (2, 5)
    assert (bench.passes_up_to(1), bench.passes_up_to(2)) == (1, 1)
    assert [rows.images for rows in results[1]] == [["image 2", "image 3"]]
    for stream_results, seeds in zip(results[:2], ([0, 1], [2, 3]), strict=True):
        assert_close(joined(stream_results), alone(bench, seeds))
    np.testing.assert_array_equal(joined(results[2]), alone(bench, [4], "features.12"))


async def test_requests_with_other_compute_options_never_share_a_pass(bench: Bench) -> None:
    usual = ForwardSpec(bench.taps("features.5"), InputSpec((3, 224, 224)))
    other = replace(usual, options=ComputeOptions(memory_format=MemoryFormat.CHANNELS_LAST))
    with (
        bench.batcher.open(usual, 0) as one,
        bench.batcher.open(other, 0) as two,
        bench.batcher.open(other, 0) as three,
    ):
        async with waiting_device(bench):
            for stream in (one, two, three):
                put(stream, [1])
        results = [await read(stream) for stream in (one, two, three)]
    assert bench.pass_count == 2
    first, second, third = map(joined, results)
    np.testing.assert_array_equal(first, alone(bench, [1], "features.5"))
    np.testing.assert_array_equal(second, third)
    assert (first != second).any()


async def test_a_pass_has_no_more_images_than_allowed(bench: Bench) -> None:
    with bench.open(bench.taps(), 0) as one, bench.open(bench.taps(), 0) as two:
        async with waiting_device(bench):
            put(one, [0, 1, 2])
            put(two, [3, 4, 5])
        results = await asyncio.gather(read(one), read(two))
    assert bench.image_count == 6
    assert bench.passes_up_to(MAX_BATCH) == bench.pass_count == 2
    for stream_results, seeds in zip(results, ([0, 1, 2], [3, 4, 5]), strict=True):
        names = [name for rows in stream_results for name in rows.images]
        assert names == [f"image {seed}" for seed in seeds]
        assert_close(joined(stream_results), alone(bench, seeds))


async def test_a_batch_size_that_was_asked_for_is_never_shared(bench: Bench) -> None:
    with (
        bench.open(bench.taps(), 0) as merging,
        bench.open(bench.taps(), 2) as one,
        bench.open(bench.taps(), 2) as two,
    ):
        async with waiting_device(bench):
            put(merging, [0])
            put(one, [1, 2])
            put(two, [3, 4, 5])
        results = await asyncio.gather(read(merging), read(one), read(two))
    assert [len(rows.images) for rows in results[2]] == [2, 1]
    assert bench.pass_count == 4
    np.testing.assert_array_equal(joined(results[1]), alone(bench, [1, 2]))
    np.testing.assert_array_equal(results[2][0].arrays[0], alone(bench, [3, 4]))
    np.testing.assert_array_equal(results[2][1].arrays[0], alone(bench, [5]))


async def test_an_incomplete_batch_waits_for_its_size_or_the_end(bench: Bench) -> None:
    with bench.open(bench.taps(), 3) as exact, bench.open(bench.taps(), 0) as other:
        put(exact, [0, 1], end=False)
        put(other, [2])
        await read(other)
        assert bench.image_count == 1
        put(exact, [3, 4])
        assert [len(rows.images) for rows in await read(exact)] == [3, 1]


async def test_a_huge_request_does_not_keep_a_small_one_waiting(bench: Bench) -> None:
    with bench.open(bench.taps(), 0) as huge, bench.open(bench.taps(), 0) as small:
        put(huge, range(100))
        reading = asyncio.create_task(read(huge))
        while bench.pass_count < 3:
            await asyncio.sleep(0.005)
        before = bench.pass_count
        put(small, [1000])
        await read(small)
        # The pass under way, one of the huge request's turn, its own.
        assert bench.pass_count - before <= 3
        assert not reading.done()
        reading.cancel()


async def test_whoever_does_not_read_stops_only_their_own_stream(bench: Bench) -> None:
    with bench.open(bench.taps(), 0) as slow, bench.open(bench.taps(), 0) as quick:
        put(slow, range(40))
        while bench.pass_count < 2:
            await asyncio.sleep(0.005)
        put(quick, range(100, 120))
        assert len(joined(await read(quick))) == 20
        assert bench.image_count == 2 * MAX_BATCH + 20
        names = [name for rows in await read(slow) for name in rows.images]
        assert names == [f"image {seed}" for seed in range(40)]


async def test_images_of_a_client_that_cancelled_never_reach_the_device(bench: Bench) -> None:
    with bench.open(bench.taps(), 0) as staying:
        async with waiting_device(bench):
            with bench.open(bench.taps(), 0) as leaving:
                put(leaving, range(8))
                assert bench.queue_depth == 8
            put(staying, [100])
            assert bench.queue_depth == 1
        await read(staying)
    assert bench.queue_depth == 0
    assert bench.image_count == 1
    assert bench.cancelled_count == 8


async def test_passes_side_by_side_keep_the_order(loaded: tuple[LoadedModel, Structure]) -> None:
    wide = Bench(*loaded, width=2)
    with wide.open(wide.taps(), 3) as stream:
        put(stream, range(20))
        results = await read(stream)
    assert wide.pass_count == 7
    assert [name for rows in results for name in rows.images] == [f"image {n}" for n in range(20)]
    assert_close(joined(results), alone(wide, range(20)))
    wide.lanes.close()


async def test_a_lane_that_is_busy_keeps_nobody_from_the_other(
    loaded: tuple[LoadedModel, Structure],
) -> None:
    wide = Bench(*loaded, width=2)
    turn = await wide.lanes.turn()
    with wide.open(wide.taps(), 0) as stream:
        put(stream, range(6))
        assert len(joined(await read(stream))) == 6
    turn.end()
    wide.lanes.close()


async def test_images_that_nobody_else_waits_with_go_to_all_free_lanes(
    loaded: tuple[LoadedModel, Structure],
) -> None:
    wide = Bench(*loaded, width=2)
    with wide.open(wide.taps(), 0) as stream:
        put(stream, range(3))
        assert [len(rows.images) for rows in await read(stream)] == [2, 1]
    with wide.open(wide.taps(), 0) as one, wide.open(wide.taps("features.5"), 0) as other:
        async with waiting_device(wide):
            put(one, range(4))
            put(other, range(4))
        assert [len(await read(stream)) for stream in (one, other)] == [1, 1]
    wide.lanes.close()


def lanes_of_four_cores(used: list[int]) -> DeviceLanes:
    """Return two lanes, which note in `used` the cores of each pass."""
    lanes = DeviceLanes("cpu", Cores(4, used.append), 2)
    assert used == [2, 2]  # each lane has started the threads of its share
    used.clear()
    return lanes


@pytest.mark.parametrize(("batch_size", "cores"), [(0, 4), (1, 2)])
async def test_the_one_image_that_is_awaited_takes_all_cores_unless_bits_must_not_change(
    loaded: tuple[LoadedModel, Structure], batch_size: int, cores: int
) -> None:
    used: list[int] = []
    lanes = lanes_of_four_cores(used)
    batcher = Batcher(loaded[0].model, lanes, LIMITS, Metrics())
    work = ForwardSpec(taps(loaded[1], ["classifier.1"]), InputSpec((3, 224, 224)))
    with batcher.open(work, batch_size) as stream:
        put(stream, [0])
        await read(stream)
    assert used == [cores]
    lanes.close()


@pytest.mark.parametrize(("batch_size", "image_count"), [(0, 1), (2, 2)])
async def test_a_pass_in_another_process_has_all_cores_but_others_begin_beside_it(
    loaded: tuple[LoadedModel, Structure], batch_size: int, image_count: int
) -> None:
    used: list[int] = []
    lanes = lanes_of_four_cores(used)
    model = EndlessModel(loaded[0].model)
    batcher = Batcher(model, lanes, LIMITS, Metrics())
    work = ForwardSpec(taps(loaded[1], ["classifier.1"]), InputSpec((3, 224, 224)))
    cores = plan_cores(4, 2, batch_size=batch_size, image_count=2) if batch_size else None
    with batcher.open(work, batch_size, cores) as stream:
        put(stream, range(image_count))
        reading = asyncio.create_task(read(stream))
        while not used:
            await asyncio.sleep(0.005)
        async with asyncio.timeout(10):
            (await lanes.turn()).end()
        assert not reading.done()
        model.over.set()
        await reading
    assert used == [4]
    lanes.close()


@asynccontextmanager
async def two_lanes(loaded: tuple[LoadedModel, Structure], used: list[int]) -> AsyncIterator[Any]:
    """Yield lanes of four cores, and what opens a stream of batches of two with a wide tail."""
    lanes = lanes_of_four_cores(used)
    batcher = Batcher(loaded[0].model, lanes, LIMITS, Metrics())
    work = ForwardSpec(taps(loaded[1], ["features.5"]), InputSpec((3, 224, 224)))
    yield lanes, partial(batcher.open, work, 2, plan_cores(4, 2, batch_size=2, image_count=6))
    lanes.close()


async def test_the_last_batch_of_a_job_waits_for_all_cores_whatever_the_load(
    loaded: tuple[LoadedModel, Structure],
) -> None:
    used: list[int] = []
    async with two_lanes(loaded, used) as (lanes, opened):
        turn = await lanes.turn()
        with opened() as stream:
            put(stream, range(6))
            reading = asyncio.create_task(read(stream))
            while len(used) < 2:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.1)
            assert used == [2, 2], "the last batch waits for the lane that others use"
            turn.end()
            assert len(joined(await reading)) == 6
    assert used == [2, 2, 4]


async def test_a_request_that_leaves_while_it_waits_for_all_cores_keeps_nobody_waiting(
    loaded: tuple[LoadedModel, Structure],
) -> None:
    used: list[int] = []
    async with two_lanes(loaded, used) as (lanes, opened):
        turn = await lanes.turn()
        with opened() as staying:
            with opened() as leaving:
                put(leaving, range(6))
                while len(used) < 2:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.1)
            put(staying, range(4), end=False)
            while len(used) < 4:  # on the other lane: nobody waits for all cores any more
                await asyncio.sleep(0.005)
        turn.end()
    assert used == [2, 2, 2, 2]


async def test_a_lane_is_lent_to_batches_that_end_before_all_cores_are_free(
    loaded: tuple[LoadedModel, Structure],
) -> None:
    used: list[int] = []
    async with two_lanes(loaded, used) as (lanes, opened):
        with opened() as first:
            put(first, range(6))
            await read(first)
        turn = await lanes.turn()
        turn.expect(600.0)
        merge = partial(opened.func, opened.args[0], 0)
        with opened() as wide, act_as(person_of_peer("greedy")), merge() as early, merge() as late:
            lanes.order.begin(early.account, 1000.0)
            lanes.order.end(early.account, 0.0)
            put(wide, range(6))
            reading = asyncio.create_task(read(wide))
            while len(used) < 5:
                await asyncio.sleep(0.005)
            put(early, range(100, 110))
            assert len(joined(await read(early))) == 10
            assert not reading.done(), "all cores are not free yet"
            with act_as(person_of_peer("new")), merge() as new:
                _, seconds, *_ = lanes.order.rank(new.account)
            assert seconds < 1000, "who comes now is not put behind whoever used what was lent"
            turn.expect(0.0)
            put(late, range(3))
            await asyncio.sleep(0.1)
            assert late.runnable_count == 3, "it would make the first in the queue wait longer"
            count = len(used)
            turn.end()
            assert len(joined(await reading)) == 6
            assert used[count] == 4
            assert len(joined(await read(late))) == 3


async def test_a_closed_stream_holds_no_inputs_and_no_rows(bench: Bench) -> None:
    """Whoever still refers to it, such as gRPC to a call that was cancelled."""
    with bench.open(bench.taps("features.5"), 2) as stream:
        put(stream, range(4), end=False)
        async with asyncio.timeout(60):
            while stream._results.qsize() < 2:
                await asyncio.sleep(0.005)
        late = weakref.ref(stream.begin_image().buffer)
        rows = weakref.ref(stream._results._queue[0])  # type: ignore[attr-defined]
    gc.collect()
    assert (late(), rows(), stream._results.qsize()) == (None, None, 0)
    stream.put(PreparedImage("late", torch.zeros(3, 224, 224), time.monotonic()))
    assert not stream.ready
    assert bench.queue_depth == 0
