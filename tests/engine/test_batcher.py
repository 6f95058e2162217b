"""The batcher over a real network: what shares a forward pass, what never does, who comes next.

The test holds the device's turn to say what is ready when a batch is chosen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from support.closeness import assert_close
from support.serving import open_sources
from thingsvision_server.backends.compute_options import ComputeOptions, MemoryFormat
from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.taps import Tap, taps
from thingsvision_server.backends.torch.device import core_count, use_cores
from thingsvision_server.engine.models.loading import LoadedModel, ModelLoader
from thingsvision_server.engine.passes.batcher import Batcher, BatchLimits
from thingsvision_server.engine.passes.forward import ForwardSpec
from thingsvision_server.engine.passes.lanes import Cores, DeviceLanes
from thingsvision_server.engine.passes.stream import BatchStream, FeatureRows, PreparedImage
from thingsvision_server.inputs import InputSpec
from thingsvision_server.metrics import Metrics
from thingsvision_server.sources.base import ModelKey, Random

MAX_BATCH = 4
CORES = Cores(core_count(), use_cores)
LIMITS = BatchLimits(MAX_BATCH, 64 * 2**20)


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


@dataclass
class Bench:
    """A batcher and what it did."""

    loaded: LoadedModel
    structure: Structure
    metrics: Metrics = field(default_factory=Metrics)
    width: int = 1

    def __post_init__(self) -> None:
        self.lanes = DeviceLanes("cpu", CORES, self.width)
        self.batcher = Batcher(self.loaded.model, self.lanes, LIMITS, self.metrics)

    def taps(self, *names: str) -> tuple[Tap, ...]:
        return taps(self.structure, names or ("classifier.1",))

    def open(self, tapped: tuple[Tap, ...], batch_size: int) -> AbstractContextManager[BatchStream]:
        """Open a stream of the model's own inputs."""
        return self.batcher.open(ForwardSpec(tapped, InputSpec((3, 224, 224))), batch_size)

    @property
    def pass_count(self) -> int:
        return int(self._sample("thingsvision_batch_images_count"))

    @property
    def image_count(self) -> int:
        return int(self._sample("thingsvision_batch_images_sum"))

    @property
    def cancelled_count(self) -> int:
        return int(self._sample("thingsvision_cancelled_images_total"))

    @property
    def queue_depth(self) -> int:
        return int(self._sample("thingsvision_queue_depth"))

    def passes_up_to(self, images: int) -> int:
        """Return the number of passes with at most this many images (a bound of the histogram)."""
        return int(self._sample("thingsvision_batch_images_bucket", {"le": f"{images}.0"}))

    def _sample(self, name: str, labels: dict[str, str] | None = None) -> float:
        value = self.metrics.registry.get_sample_value(name, labels or {})
        assert value is not None
        return value


@pytest.fixture
async def bench(loaded: tuple[LoadedModel, Structure]) -> AsyncIterator[Bench]:
    before = torch.get_num_threads()
    use_cores(core_count())  # `alone` computes in this thread, as the one lane does
    made = Bench(*loaded)
    yield made
    made.lanes.close()
    use_cores(before)


def images(*seeds: int) -> list[torch.Tensor]:
    return [torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(n)) for n in seeds]


def put(stream: BatchStream, seeds: range | list[int], *, end: bool = True) -> None:
    for seed, tensor in zip(seeds, images(*seeds), strict=True):
        stream.put(PreparedImage(f"image {seed}", tensor, time.monotonic()))
    if end:
        stream.end()


async def read(stream: BatchStream) -> list[FeatureRows]:
    async with asyncio.timeout(60), aclosing(stream.results()) as results:
        return [rows async for rows in results]


def joined(results: list[FeatureRows]) -> np.ndarray[Any, Any]:
    return np.concatenate([rows.arrays[0] for rows in results])


def alone(bench: Bench, seeds: range | list[int], *names: str) -> np.ndarray[Any, Any]:
    return bench.loaded.model.run(images(*seeds), bench.taps(*names)).rows[0]


@asynccontextmanager
async def waiting_device(bench: Bench) -> AsyncIterator[None]:
    """Hold the device while the test makes things ready."""
    turns = [await bench.lanes.turn() for _ in range(bench.lanes.width)]
    yield
    await asyncio.sleep(0)
    for turn in turns:
        turn.end()


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


@pytest.mark.parametrize(("batch_size", "cores"), [(0, 4), (1, 2)])
async def test_the_one_image_that_is_awaited_takes_all_cores_unless_bits_must_not_change(
    loaded: tuple[LoadedModel, Structure], batch_size: int, cores: int
) -> None:
    used: list[int] = []
    lanes = DeviceLanes("cpu", Cores(4, used.append), 2)
    batcher = Batcher(loaded[0].model, lanes, LIMITS, Metrics())
    work = ForwardSpec(taps(loaded[1], ["classifier.1"]), InputSpec((3, 224, 224)))
    with batcher.open(work, batch_size) as stream:
        put(stream, [0])
        await read(stream)
    assert used == [cores]
    lanes.close()
