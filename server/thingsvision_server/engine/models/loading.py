"""Loads models from their sources, and describes models that are not loaded yet."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ...backends.base import OutOfDeviceMemoryError, RunnableModel
from ...backends.modules import Structure
from ...backends.offloading import OffloadableModel, OffloadedModel
from ...errors import DeviceMemoryError
from ...inputs import InputTransform
from ...metrics import Metrics
from ...sources import Sources
from ...sources.base import ModelKey, Weights
from ..passes.batcher import Batcher, BatchLimits
from ..passes.lanes import DeviceLanes

_MAX_STRUCTURES = 256

_StructureKey = tuple[ModelKey, tuple[int, ...] | None]
"""A model, and the shape of its images if that is not the model's own."""


@dataclass(eq=False)
class LoadedModel:
    """A model on the device, with everything that its requests share."""

    key: ModelKey
    model: RunnableModel
    batcher: Batcher
    lanes: DeviceLanes

    async def close(self) -> None:
        """Free the model's memory, after passes that still run for readers who have left."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        await self.batcher.drain()
        await self.lanes.run(self.model.close)

    @property
    def offload(self) -> Callable[[], Awaitable[OffloadedModel]] | None:
        """Return a call that moves the weights to the host's memory; None if no call can."""
        if not isinstance(self.model, OffloadableModel):
            return None
        return partial(self._offload, self.model)

    async def _offload(self, model: OffloadableModel) -> OffloadedModel:
        await self.batcher.drain()
        return await self.lanes.run(model.offload)


class ModelLoader:
    """Loads models onto one device. All methods may block: call them off the event loop."""

    def __init__(
        self, sources: Sources, lanes: DeviceLanes, limits: BatchLimits, metrics: Metrics
    ) -> None:
        self._sources = sources
        self._lanes = lanes
        self._limits = limits
        self._metrics = metrics
        self._structures: OrderedDict[_StructureKey, Structure] = OrderedDict()
        self._structures_lock = threading.Lock()

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full."""
        return self._sources.resolve(key)

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model, from a cache of recently used structures."""
        cache_key = (key, image_shape)
        with self._structures_lock:
            cached = self._structures.get(cache_key)
        structure = cached or self._sources[key.source].structure(key, image_shape)
        if structure.is_provisional:
            return structure
        with self._structures_lock:
            self._structures[cache_key] = structure
            self._structures.move_to_end(cache_key)
            while len(self._structures) > _MAX_STRUCTURES:
                self._structures.popitem(last=False)
        return structure

    def forget(self, weights: Weights) -> None:
        """Drop the cached structures of models with these weights, because the weights changed."""
        with self._structures_lock:
            for cache_key in [one for one in self._structures if one[0].uses(weights)]:
                del self._structures[cache_key]

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the input transforms of a resolved model, by modality."""
        return self._sources[key.source].transforms(key)

    def predict_bytes(self, key: ModelKey) -> int:
        """Return the device memory that the model will take, bytes, without allocating any."""
        return self.structure(key).state_bytes

    def load(self, key: ModelKey, host: OffloadedModel | None = None) -> LoadedModel:
        """Load a resolved model from its source, or restore it from the host's memory.

        Raises DeviceMemoryError if the device has no room for it beside what others hold.
        """
        try:
            model = (
                host.restore() if host else self._sources[key.source].load(key, self._lanes.device)
            )
        except OutOfDeviceMemoryError as error:
            size, reason = self.predict_bytes(key), str(error).partition("\n")[0]
            sentence = f"{self._lanes.device} has no room for the {size:,} bytes of {key}: {reason}"
            raise DeviceMemoryError(sentence, subject=str(key)) from error
        batcher = Batcher(model, self._lanes, self._limits, self._metrics)
        return LoadedModel(key, model, batcher, self._lanes)
