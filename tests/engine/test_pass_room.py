"""Passes take turns where memory is short, and evict idle models; budgets leave room for passes."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from support.closeness import assert_close
from support.serving import open_sources
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.device import use_cores
from thingsvision_server.engine.models.budget import DeviceUse, ModelBudget
from thingsvision_server.engine.models.loading import ModelLoader
from thingsvision_server.engine.passes.batcher import Batcher
from thingsvision_server.engine.passes.forward import ForwardSpec
from thingsvision_server.engine.passes.lanes import Cores, DeviceLanes
from thingsvision_server.engine.passes.limits import BatchLimits
from thingsvision_server.engine.passes.room import MemoryProbe, PassRoom
from thingsvision_server.engine.passes.stream import PreparedImage
from thingsvision_server.inputs import InputSpec
from thingsvision_server.monitoring.metrics import Metrics
from thingsvision_server.sources.base import ModelKey, Random

GIB = 2**30


@dataclass
class Memory:
    """A device with so much free memory, and so much that it keeps although it is free."""

    free: int
    kept: int = 0
    models: list[int] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)

    def room(self, capacity: int = 100 * GIB) -> PassRoom:
        def reclaim() -> None:
            self.free, self.kept = self.free + self.kept, 0

        probe = MemoryProbe(
            lambda: self.free, reclaim, lambda: None, lambda: self.peaks.pop() if self.peaks else 0
        )
        room = PassRoom(capacity, probe, lambda: self.waits.append("waited"))
        room.evict_idle = self.evict
        return room

    async def evict(self) -> bool:
        await asyncio.sleep(0)
        if not self.models:
            return False
        self.free += self.models.pop()
        return True


async def test_passes_run_side_by_side_where_both_fit() -> None:
    memory = Memory(free=4 * GIB)
    room = memory.room()
    async with room.take(2 * GIB) as first, room.take(2 * GIB) as second:
        assert first
        assert second
        assert room.used_bytes == 4 * GIB
    assert (room.used_bytes, room.peak_bytes, memory.waits) == (0, 4 * GIB, [])


@pytest.mark.parametrize(("free", "capacity"), [(3 * GIB, 100 * GIB), (100 * GIB, 3 * GIB)])
async def test_a_pass_waits_for_another(free: int, capacity: int) -> None:
    memory = Memory(free=free)
    room = memory.room(capacity)
    order = []

    async def run(name: str, needed: int) -> None:
        async with room.take(needed) as fits:
            assert fits
            order.append(f"{name} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")

    async with asyncio.timeout(10):
        await asyncio.gather(run("large", 2 * GIB), run("other", 2 * GIB), run("small", GIB // 100))
    assert order.index("large ends") < order.index("other begins")
    assert order.index("small begins") < order.index("large ends")
    assert (memory.waits, room.used_bytes) == (["waited"], 0)


async def test_a_pass_larger_than_the_capacity_runs_alone() -> None:
    async with Memory(free=9 * GIB).room(GIB).take(8 * GIB) as fits:
        assert fits


async def test_kept_memory_then_idle_models_make_room() -> None:
    memory = Memory(free=GIB, kept=GIB, models=[GIB, GIB])
    room = memory.room()
    async with room.take(2 * GIB) as fits:
        assert fits
    assert memory.models == [GIB, GIB]
    async with room.take(3 * GIB) as fits:
        assert fits
    assert memory.models == [GIB]
    async with room.take(9 * GIB) as fits:
        assert not fits
    assert memory.models == []
    assert room.used_bytes == 0


async def test_room_is_given_back_after_an_error_and_the_measured_peak_kept() -> None:
    memory = Memory(free=9 * GIB, peaks=[3 * GIB])
    room = memory.room()
    with pytest.raises(ValueError, match="broken"):
        async with room.take(8 * GIB):
            raise ValueError("broken")
    assert (room.used_bytes, room.peak_bytes) == (0, 3 * GIB)


async def test_a_batch_without_room_is_halved_before_it_runs(tmp_path: Path) -> None:
    """The batcher halves it, as the device has room for two of the four images."""
    cores = Cores(1, use_cores)
    lanes, sources = DeviceLanes("cpu", cores), open_sources(tmp_path)
    loader = ModelLoader(sources, lanes, BatchLimits(4, GIB), Metrics())
    key = ModelKey("torchvision", "squeezenet1_1", Random(0))
    loaded, memory = loader.load(key), Memory(free=3 * GIB, models=[])
    tapped = taps(loader.structure(key, (3, 64, 64)), ["features.0"])
    forward = ForwardSpec(tapped, InputSpec((3, 64, 64)), inner_bytes=GIB)
    batcher = Batcher(
        loaded.model, lanes, BatchLimits(4, GIB, inner_bytes=9 * GIB), Metrics(), room=memory.room()
    )
    images = [np.full((3, 64, 64), n, np.float32) for n in range(4)]
    with batcher.open(forward, 4) as stream:
        for number, image in enumerate(images):
            stream.put(PreparedImage(str(number), image, time.monotonic()))
        stream.end()
        async with asyncio.timeout(60), aclosing(stream.results()) as results:
            found = [rows async for rows in results]
    assert [(rows.images, rows.pass_size) for rows in found] == [(["0", "1"], 2), (["2", "3"], 2)]
    alone = loaded.model.run([images[2][None]], tapped).rows[0]
    assert_close(found[1].arrays[0][:1], alone)
    await loaded.close()
    lanes.close()


def test_the_budget_of_models_on_a_gpu() -> None:
    use = DeviceUse(total_bytes=100 * GIB, used_bytes=30 * GIB, own_bytes=20 * GIB)
    assert use.other_bytes == 10 * GIB
    own = ModelBudget(0, lambda: use)
    # 5 GiB at least are left for passes, then what they took.
    assert own.bytes_beside(0, 0) == 85 * GIB
    assert own.bytes_beside(20 * GIB, 0) == 70 * GIB
    # A model of TensorFlow is part of the 10 GiB of others.
    assert own.bytes_beside(0, 4 * GIB) == 89 * GIB
    assert ModelBudget(40 * GIB, lambda: use).bytes_beside(0, 0) == 40 * GIB
    # Another process takes nearly all.
    full = DeviceUse(100 * GIB, 99 * GIB, 0)
    assert ModelBudget(40 * GIB, lambda: full).bytes_beside(0, 0) == 0


def test_the_budget_of_models_on_a_cpu_is_fixed() -> None:
    assert ModelBudget(7 * GIB).bytes_beside(5 * GIB, GIB) == 7 * GIB
