"""Loads models from their sources, and describes models that are not loaded yet."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ...access.person import SERVER, act_as
from ...backends.base import OutOfDeviceMemoryError, RunnableModel
from ...backends.modules import Structure
from ...backends.offloading import OffloadableModel, OffloadedModel
from ...errors import DeviceMemoryError, NotFoundError
from ...inputs import InputTransform
from ...monitoring.metrics import Metrics
from ...sources import Sources
from ...sources.base import ModelKey, Weights
from ...threads import check_threads
from ..passes.batcher import Batcher
from ..passes.lanes import DeviceLanes
from ..passes.limits import BatchLimits
from ..passes.room import PassRoom, unlimited_room

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
    release: Callable[[], None]
    """Lets other servers delete the model's file."""

    async def close(self) -> None:
        """Free the model's memory, after passes that still run for readers who have left."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        await self.batcher.drain()
        try:
            await self.lanes.run(self.model.close)
        finally:
            await asyncio.to_thread(self.release)

    @property
    def offload(self) -> Callable[[], Awaitable[OffloadedModel]] | None:
        """Return a call that moves the weights to the host's memory; None if no call can."""
        if not isinstance(self.model, OffloadableModel):
            return None
        return partial(self._offload, self.model)

    async def _offload(self, model: OffloadableModel) -> OffloadedModel:
        await self.batcher.drain()
        offloaded = await self.lanes.run(model.offload)
        await asyncio.to_thread(self.release)
        return offloaded


class ModelLoader:
    """Loads models onto one device. All methods may block: call them off the event loop."""

    def __init__(
        self,
        sources: Sources,
        lanes: DeviceLanes,
        limits: BatchLimits,
        metrics: Metrics,
        *,
        room: PassRoom | None = None,
    ) -> None:
        self._sources = sources
        self._lanes = lanes
        self._limits = limits
        self._room = room or unlimited_room()
        self._metrics = metrics
        self._structures: OrderedDict[_StructureKey, Structure] = OrderedDict()
        self._structures_lock = threading.Lock()

    @property
    def device(self) -> str:
        """Return the device that models are loaded onto."""
        return self._lanes.device

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full."""
        return self._sources.resolve(key)

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model, from a cache of recently used structures."""
        image_shape = image_shape or self._sources.image_shape(key)
        cache_key = (key, image_shape)
        with self._structures_lock:
            cached = self._structures.get(cache_key)
        if cached is None:
            check_threads(self._lanes.all_cores - 1)
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
        check_threads(self._lanes.all_cores - 1)
        release = self._sources.claim(key)
        try:
            model = self._load(key, host)
        except BaseException:
            release()
            raise
        batcher = Batcher(model, self._lanes, self._limits, self._metrics, room=self._room)
        return LoadedModel(key, model, batcher, lanes=self._lanes, release=release)

    def _load(self, key: ModelKey, host: OffloadedModel | None) -> RunnableModel:
        try:
            return host.restore() if host else self._load_from_source(key)
        except OutOfDeviceMemoryError as error:
            size, reason = self.predict_bytes(key), str(error).partition("\n")[0]
            sentence = f"{self._lanes.device} has no room for the {size:,} bytes of {key}: {reason}"
            raise DeviceMemoryError(sentence, subject=str(key)) from error

    def _load_from_source(self, key: ModelKey) -> RunnableModel:
        source, device = self._sources[key.source], self._lanes.device
        try:
            return source.load(key, device)
        except NotFoundError:
            # Who asked first may have lost it while the load waited: others wait for it, too.
            with act_as(SERVER):
                return source.load(key, device)
