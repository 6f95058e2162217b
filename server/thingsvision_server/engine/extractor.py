"""Extracts features: from a model's name and images to rows in image order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from ..backends.base import NetworkError
from ..backends.compute_options import DEFAULT, ComputeOptions
from ..backends.modules import Structure
from ..errors import InvalidRequestError, network_error
from ..inputs import IMAGE, InputTransform
from ..sources.base import ModelKey, Weights
from .images.preparing import ImagePreparer, Preparation
from .images.server_images import SentItem
from .models.loading import LoadedModel, ModelLoader
from .models.residency import Residency
from .passes.stream import BatchStream, FeatureRows
from .pca.fitted import FeatureFacts
from .pca.store import PCAStore
from .planning import ExtractSpec, Plan, image_transform, plan


@dataclass
class Extraction:
    """One request's extraction: its leased model, its plan, and its counts and times."""

    loaded: LoadedModel
    plan: Plan
    facts: FeatureFacts
    """What the features, before any PCA, depend on."""
    batch_size: int
    """Images in a forward pass, within the server's limits; 0: as many as are ready."""
    batch_limit: str = ""
    """The limit that lowered it; empty if none did."""
    preparation: Preparation = field(default_factory=Preparation)
    deterministic: bool = False
    skipped_count: int = 0
    """Images that could not be used."""
    overflow_count: int = 0
    """Finite values that are infinite in the features' element type."""
    wait_seconds: float = 0.0
    forward_seconds: float = 0.0


class Extractor:
    """Extracts features of images with leased models."""

    def __init__(
        self, loader: ModelLoader, residency: Residency, preparer: ImagePreparer, pcas: PCAStore
    ) -> None:
        self._loader = loader
        self._residency = residency
        self._preparer = preparer
        self._pcas = pcas

    async def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full."""
        return await asyncio.to_thread(self._loader.resolve, key)

    async def structure(self, key: ModelKey) -> Structure:
        """Return the modules of a model; its weights need not be present."""
        return await asyncio.to_thread(self._loader.structure, await self.resolve(key))

    async def input_transform(self, spec: ExtractSpec) -> InputTransform:
        """Return how a request's images become inputs; the model's weights need not be present."""
        return await asyncio.to_thread(self._input_transform, await self.resolve(spec.key), spec)

    async def value_range(self, transform: InputTransform) -> tuple[float, float] | None:
        """Return the smallest and the largest value of a transform's inputs; None: unknown."""
        return await self._preparer.value_range(transform)

    def _input_transform(self, key: ModelKey, spec: ExtractSpec) -> InputTransform:
        return image_transform(self._loader.transforms(key)[IMAGE], spec)

    async def inputs(
        self, transform: InputTransform, images: AsyncIterator[SentItem]
    ) -> AsyncGenerator[Any]:
        """Yield what the network would get of each image: an array of float32."""
        async for image in images:
            yield await self._preparer.make_input(image, transform)

    def forget(self, weights: Weights) -> None:
        """Drop the cached structures of models with these weights, because the weights changed."""
        self._loader.forget(weights)

    @asynccontextmanager
    async def open(self, spec: ExtractSpec) -> AsyncIterator[Extraction]:
        """Lease the model and plan the extraction; errors of the request come before any load."""
        key = await self.resolve(spec.key)
        planned = await asyncio.to_thread(plan, self._loader, key, spec)
        if spec.pca:
            await asyncio.to_thread(self._pcas.find_records, spec.pca)
        async with self._residency.lease(key) as loaded:
            if planned.is_provisional:
                planned = await asyncio.to_thread(plan, self._loader, key, spec)
            _check_supported(loaded, spec.options)
            facts = spec.facts(key, loaded.model.model_sha256, planned)
            if spec.pca:  # whether it fits depends on the loaded model's SHA-256
                planned = await asyncio.to_thread(self._with_pca, planned, spec.pca, facts)
            limits, taps = loaded.batcher.limits, planned.forward.taps
            most = limits.max_images(taps)
            limit = limits.name_lowest(taps) if spec.batch_size > most else ""
            size = 1 if spec.deterministic else min(spec.batch_size, most)
            if spec.options.compiled:
                planned = planned.with_pass_size(size)
            preparation = Preparation(skips_bad_images=spec.skips_bad_images)
            yield Extraction(
                loaded,
                planned,
                facts,
                batch_size=size,
                batch_limit=limit,
                preparation=preparation,
                deterministic=spec.deterministic,
            )

    def _with_pca(self, planned: Plan, wanted: str, facts: FeatureFacts) -> Plan:
        pca = self._pcas.find(wanted, facts, planned.forward.shapes_before_pca)
        forward = replace(planned.forward, pca=pca)
        return replace(planned, forward=forward, row_shapes=forward.row_shapes)

    async def rows(
        self, extraction: Extraction, images: AsyncIterator[SentItem]
    ) -> AsyncGenerator[FeatureRows]:
        """Yield the rows of the images, in their order, as batches finish.

        Closing the generator drops the images that wait; decodes and batches that run still finish.
        """
        batcher, forward = extraction.loaded.batcher, extraction.plan.forward
        with batcher.open(forward, extraction.batch_size) as stream:
            feeder = asyncio.create_task(self._feed(stream, extraction, images))
            feeder.add_done_callback(lambda task: _propagate_error(task, stream))
            try:
                async with aclosing(stream.results()) as results:
                    async for rows in results:
                        extraction.overflow_count += rows.overflow_count
                        extraction.skipped_count += len(rows.skipped)
                        yield rows
            except NetworkError as error:
                shape = error.shape or extraction.plan.transform.spec.shape
                key = extraction.loaded.key
                raise network_error(f"{key.source}/{key.name}", shape, error) from error
            finally:
                feeder.cancel()
                extraction.wait_seconds = stream.wait_seconds
                extraction.forward_seconds = stream.forward_seconds

    async def _feed(
        self, stream: BatchStream, extraction: Extraction, images: AsyncIterator[SentItem]
    ) -> None:
        transform, preparation = extraction.plan.transform, extraction.preparation
        await self._preparer.feed(stream, images, transform, preparation)


def _check_supported(loaded: LoadedModel, options: ComputeOptions) -> None:
    for name, chosen in vars(options).items():
        valid = loaded.model.supported.get(name, (getattr(DEFAULT, name),))
        if chosen not in valid:
            raise _option_error(loaded, name, chosen, valid)


def _option_error(
    loaded: LoadedModel, name: str, chosen: Any, valid: Sequence[Any]
) -> InvalidRequestError:
    if not isinstance(chosen, Enum):
        reason = _UNSUPPORTED.get(name, f"does not support `{name}`")
        return InvalidRequestError(f"{loaded.key} {reason}; leave `{name}` out", field=name)
    names = ", ".join(one.value for one in valid)
    return InvalidRequestError(
        f"`{name}` of {loaded.key} on {loaded.lanes.device} must be one of: {names}; "
        f"got {chosen.value}",
        field=name,
        subject=chosen.value,
    )


_UNSUPPORTED = {"compiled": "is not a PyTorch network, so it can't be compiled"}
"""Why a model does not take an option that is true or false, by the option's name."""


def _propagate_error(task: asyncio.Task[None], stream: BatchStream) -> None:
    if not task.cancelled() and (error := task.exception()):
        stream.fail(error)
