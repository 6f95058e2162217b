"""A batcher over a real network, whose device a test can hold to say what is ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import torch

from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.taps import Tap, taps
from thingsvision_server.backends.torch.device import core_count, use_cores
from thingsvision_server.engine.models.loading import LoadedModel
from thingsvision_server.engine.passes.batcher import Batcher
from thingsvision_server.engine.passes.forward import ForwardSpec
from thingsvision_server.engine.passes.lanes import Cores, DeviceLanes
from thingsvision_server.engine.passes.limits import BatchLimits
from thingsvision_server.engine.passes.stream import BatchStream, FeatureRows, PreparedImage
from thingsvision_server.inputs import InputSpec
from thingsvision_server.monitoring.metrics import Metrics

MAX_BATCH = 4
CORES = Cores(core_count(), use_cores)
LIMITS = BatchLimits(MAX_BATCH, 64 * 2**20)


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


@asynccontextmanager
async def waiting_device(bench: Bench) -> AsyncIterator[None]:
    """Hold the device while the test makes things ready."""
    turns = [await bench.lanes.turn() for _ in range(bench.lanes.width)]
    yield
    await asyncio.sleep(0)
    for turn in turns:
        turn.end()
