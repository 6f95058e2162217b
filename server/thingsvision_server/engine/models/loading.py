"""Builds what a request needs of a model, from its source; knows no memory budget."""

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

_STRUCTURES_KEPT = 256

_Described = tuple[ModelKey, tuple[int, ...] | None]
"""A model, and the shape of its images where it is not its own."""


@dataclass(eq=False)
class LoadedModel:
    """A model on the device with all that its requests share."""

    key: ModelKey
    model: RunnableModel
    batcher: Batcher
    lanes: DeviceLanes

    async def close(self) -> None:
        """Free the model's memory, after a batch that may still run for a reader who left."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        await self.batcher.drain()
        await self.lanes.run(self.model.close)

    @property
    def leaving(self) -> Callable[[], Awaitable[OffloadedModel]] | None:
        """What frees the device's memory but keeps the weights; None where nothing can."""
        if not isinstance(self.model, OffloadableModel):
            return None
        return partial(self._leave, self.model)

    async def _leave(self, model: OffloadableModel) -> OffloadedModel:
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
        self._structures: OrderedDict[_Described, Structure] = OrderedDict()
        self._structures_lock = threading.Lock()

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full."""
        return self._sources[key.source].resolve(key)

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model, from a cache of the last ones asked for."""
        described = (key, image_shape)
        with self._structures_lock:
            known = self._structures.get(described)
        structure = known or self._sources[key.source].structure(key, image_shape)
        if structure.is_provisional:
            return structure
        with self._structures_lock:
            self._structures[described] = structure
            self._structures.move_to_end(described)
            while len(self._structures) > _STRUCTURES_KEPT:
                self._structures.popitem(last=False)
        return structure

    def forget(self, weights: Weights) -> None:
        """Drop the structures of models with these weights: what is known of them changed."""
        with self._structures_lock:
            for described in [one for one in self._structures if one[0].weights == weights]:
                del self._structures[described]

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return how a resolved model's inputs are made, by modality."""
        return self._sources[key.source].transforms(key)

    def predict_bytes(self, key: ModelKey) -> int:
        """Return the memory that the model will take, bytes; nothing of it is allocated."""
        return self.structure(key).state_bytes

    def load(self, key: ModelKey, host: OffloadedModel | None = None) -> LoadedModel:
        """Load a resolved model from its source, or from what it left in the host's memory.

        Raises DeviceMemoryError where what others hold leaves no room for it.
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
