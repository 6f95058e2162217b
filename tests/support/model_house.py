"""A residency over real loads; a door before each lets a test say what happens meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from support.serving import open_sources
from thingsvision_server.backends.children.template_memory import TemplateMemory
from thingsvision_server.backends.offloading import OffloadedModel
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.device import use_cores
from thingsvision_server.engine.models.budget import ModelBudget
from thingsvision_server.engine.models.loading import LoadedModel, ModelLoader
from thingsvision_server.engine.models.residency import Loading, Patience, Residency
from thingsvision_server.engine.passes.lanes import Cores, DeviceLanes
from thingsvision_server.engine.passes.limits import BatchLimits
from thingsvision_server.monitoring.metrics import Metrics
from thingsvision_server.sources.base import ModelKey, Random

SQUEEZENET_BYTES = 4 * 1_248_424
PATIENCE_SECONDS = 60


def squeezenet(seed: int) -> ModelKey:
    return ModelKey("torchvision", "squeezenet1_0", Random(seed))


@dataclass
class Door:
    """Stands before every load, open unless a test shuts it; keeps who came."""

    loader: ModelLoader
    came: list[ModelKey] = field(default_factory=list)
    opened: threading.Event = field(default_factory=threading.Event)

    def load(self, key: ModelKey, host: OffloadedModel | None = None) -> LoadedModel:
        self.came.append(key)
        assert self.opened.wait(PATIENCE_SECONDS)
        return self.loader.load(key, host)


@dataclass
class House:
    residency: Residency
    door: Door
    metrics: Metrics
    loader: ModelLoader

    def count(self, name: str, **labels: str) -> float:
        return (
            self.metrics.registry.get_sample_value(f"thingsvision_model_{name}_total", labels) or 0
        )


def make_house(folder: Path) -> Callable[..., Any]:
    """Return what opens a residency with room for some SqueezeNets, over a folder of weights."""

    @asynccontextmanager
    async def opened(
        model_count: float, templates: TemplateMemory | None = None, **patience: float
    ) -> AsyncIterator[House]:
        metrics, lanes = Metrics(), DeviceLanes("cpu", Cores(1, use_cores))
        sources = open_sources(folder)
        loader = ModelLoader(sources, lanes, BatchLimits(8, 32 * 2**20), metrics)
        door = Door(loader)
        door.opened.set()
        budget_bytes = int(model_count * SQUEEZENET_BYTES)
        residency = Residency(
            Loading(loader.predict_bytes, door.load),
            "cpu",
            ModelBudget(budget_bytes),
            metrics,
            patience=Patience(**patience),
            templates=templates,
        )
        try:
            yield House(residency, door, metrics, loader)
        finally:
            door.opened.set()
            await residency.close()
            assert (residency.used_bytes, residency.reserved_bytes) == (0, 0)
            lanes.close()

    return opened


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.005)


async def visit(house: House, key: ModelKey) -> list[Any]:
    """Lease a model, run it, give it back."""
    async with house.residency.lease(key) as loaded:
        tapped = taps(house.loader.structure(key), ["features.0"])
        run = await loaded.lanes.run(lambda: loaded.model.run([torch.ones(1, 3, 224, 224)], tapped))
        return run.rows


def resident_names(house: House) -> set[str]:
    return {str(resident.key.weights) for resident in house.residency.residents()}


def waits(house: House, key: ModelKey) -> bool:
    """Tell whether a model waits for memory."""
    resident = house.residency.find(key)
    return resident is not None and resident.waits_for_memory
