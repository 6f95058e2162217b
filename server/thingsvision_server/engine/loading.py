"""Builds what a request needs of a model, from its source; knows no memory budget."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from dataclasses import dataclass

from ..backends.base import RunnableModel, Structure
from ..images import ImageTransform
from ..metrics import Metrics
from ..sources import Sources
from ..sources.base import ModelKey
from .batcher import Batcher, BatchLimits
from .lane import DeviceLane

_STRUCTURES_KEPT = 256


@dataclass(eq=False)
class LoadedModel:
    """A model on the device with all that its requests share."""

    key: ModelKey
    model: RunnableModel
    structure: Structure
    transform: ImageTransform
    batcher: Batcher
    lane: DeviceLane

    async def close(self) -> None:
        """Free the model's memory, after a batch that may still run for a reader who left."""
        await asyncio.shield(self.lane.run(self.model.close))


class ModelLoader:
    """Loads models onto one device. All methods may block: call them off the event loop."""

    def __init__(
        self, sources: Sources, lane: DeviceLane, limits: BatchLimits, metrics: Metrics
    ) -> None:
        self._sources = sources
        self._lane = lane
        self._limits = limits
        self._metrics = metrics
        self._structures: OrderedDict[ModelKey, Structure] = OrderedDict()
        self._structures_lock = threading.Lock()

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full."""
        return self._sources[key.source].resolve(key)

    def structure(self, key: ModelKey) -> Structure:
        """Return the modules of a resolved model, from a cache of the last ones asked for."""
        with self._structures_lock:
            known = self._structures.get(key)
        structure = known or self._sources[key.source].structure(key)
        with self._structures_lock:
            self._structures[key] = structure
            self._structures.move_to_end(key)
            while len(self._structures) > _STRUCTURES_KEPT:
                self._structures.popitem(last=False)
        return structure

    def predict_bytes(self, key: ModelKey) -> int:
        """Return the memory that the model will take, bytes; nothing of it is allocated."""
        return self.structure(key).state_bytes

    def load(self, key: ModelKey) -> LoadedModel:
        """Load a resolved model."""
        source = self._sources[key.source]
        structure, transform = self.structure(key), source.transform(key)
        model = source.load(key, self._lane.device)
        batcher = Batcher(model, self._lane, self._limits, self._metrics)
        return LoadedModel(key, model, structure, transform, batcher, self._lane)
