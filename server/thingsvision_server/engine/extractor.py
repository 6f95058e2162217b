"""Extracts features: from a model's name and images to rows in image order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any

from ..access.person import Person, caller
from ..backends.base import NetworkError
from ..backends.compute_options import DEFAULT, ComputeOptions
from ..backends.modules import Structure
from ..errors import InvalidRequestError, network_error
from ..inputs import IMAGE, InputTransform
from ..sources.base import ModelKey, Weights
from .fairness.in_flight import InFlight, Load
from .images.preparing import ImagePreparer, Preparation
from .images.server_images import SentItem
from .models.loading import LoadedModel, ModelLoader
from .passes.cores import CorePlan, plan_cores
from .passes.stream import BatchStream, FeatureRows
from .pca.fitted import FeatureFacts
from .pca.store import PCAStore
from .planning import ExtractSpec, Plan, image_transform, plan
from .projections import Projections
from .splits import SplitBatch, add_split
from .stream_lease import StreamLease
from .waiting import Waiting


@dataclass
class Extraction:
    """One request's extraction: its model, its plan, and its counts and times."""

    loaded: LoadedModel
    """The model when the request began: its lease may have been given back since."""
    lease: StreamLease
    stream: BatchStream
    plan: Plan
    facts: FeatureFacts
    """What the features, before any PCA, depend on."""
    batch_size: int
    """Images in a forward pass, within the server's limits; 0: as many as are ready."""
    batch_limit: str = ""
    """The limit that lowered it; empty if none did."""
    cores: CorePlan | None = None
    """The cores of each pass; None: it depends on the load, or the device is not a CPU."""
    preparation: Preparation = field(default_factory=Preparation)
    deterministic: bool = False
    skipped_count: int = 0
    """Images that could not be used."""
    overflow_count: int = 0
    """Finite values that are infinite in the features' element type."""
    place_count: int = 0
    """Images whose rows, or holes, are there."""
    split_batches: list[SplitBatch] = field(default_factory=list)
    """Images whose passes had fewer images than their batch, in order."""
    wait_seconds: float = 0.0
    forward_seconds: float = 0.0

    def count(self, rows: FeatureRows) -> None:
        """Count the next rows."""
        self.overflow_count += rows.overflow_count
        self.skipped_count += len(rows.skipped)
        self.place_count += rows.place_count
        split = self.split_of(rows)
        if split is not None:
            add_split(self.split_batches, split)

    def split_of(self, rows: FeatureRows) -> SplitBatch | None:
        """Return the images of the rows that were counted last, if their batch was split."""
        if not rows.pass_size:
            return None
        return SplitBatch(self.place_count - rows.place_count, rows.place_count, rows.pass_size)


@dataclass(frozen=True)
class Opening:
    """A request that was planned, and needs its model next."""

    lease: StreamLease
    begin: Callable[[], Awaitable[Extraction]]
    """Begins the extraction, once the model is there."""

    def waits(self) -> AsyncGenerator[Waiting]:
        """Lease the model; yield what the request waits for, if it has to wait for memory."""
        return self.lease.take()

    async def wait_and_begin(self) -> Extraction:
        """Begin the extraction as soon as the model is there."""
        async for _ in self.waits():
            pass
        return await self.begin()


class Extractor:
    """Extracts features of images with leased models."""

    def __init__(
        self,
        loader: ModelLoader,
        lease: Callable[[ModelKey], StreamLease],
        preparer: ImagePreparer,
        pcas: PCAStore,
        projections: Projections,
        *,
        in_flight: InFlight,
    ) -> None:
        self._in_flight = in_flight
        self._loader = loader
        self._lease = lease
        self._preparer = preparer
        self._pcas = pcas
        self._projections = projections

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
    async def open(self, spec: ExtractSpec) -> AsyncIterator[Opening]:
        """Plan an extraction; errors of the request come before any load.

        Read `waits` of what is opened to the end, then `begin`: leaving ends it.
        """
        key, planned = await asyncio.to_thread(self._resolve_and_plan, spec)
        if not planned.is_provisional:
            planned = await self._with_matrices(planned, spec)
        if spec.pca:
            await asyncio.to_thread(self._pcas.find_records, spec.pca, caller())
        async with AsyncExitStack() as stack:
            lease = self._lease(key)
            stack.callback(lease.give_back)

            async def begin() -> Extraction:
                extraction = await self._begin(key, spec, planned, lease)
                stack.callback(lease.loaded.batcher.close, extraction.stream)
                stack.enter_context(self._limit(extraction.stream))
                await stack.enter_async_context(lease.run(extraction.stream))
                return extraction

            yield Opening(lease, begin)

    async def _begin(
        self, key: ModelKey, spec: ExtractSpec, planned: Plan, lease: StreamLease
    ) -> Extraction:
        loaded = lease.loaded
        if planned.is_provisional:
            planned = await asyncio.to_thread(plan, self._loader, key, spec)
            planned = await self._with_matrices(planned, spec)
        _check_supported(loaded, spec.options)
        facts = spec.facts(key, loaded.model.model_sha256, planned)
        if spec.pca:  # whether it fits depends on the loaded model's SHA-256
            project = partial(self._with_pca, planned, spec.pca, facts, person=caller())
            planned = await asyncio.to_thread(project)
        limits, cost = loaded.batcher.limits, planned.forward.cost
        most = limits.max_images(cost)
        limit = limits.name_lowest(cost) if spec.batch_size > most else ""
        size = 1 if spec.deterministic else min(spec.batch_size, most)
        if spec.options.compiled:
            planned = planned.with_pass_size(size)
        cores = _plan_cores(loaded, spec, size)
        return Extraction(
            loaded=loaded,
            lease=lease,
            stream=loaded.batcher.make_stream(planned.forward, size, cores),
            plan=planned,
            facts=facts,
            batch_size=size,
            batch_limit=limit,
            cores=cores,
            preparation=Preparation(skips_bad_images=spec.skips_bad_images),
            deterministic=spec.deterministic,
        )

    @contextmanager
    def _limit(self, stream: BatchStream) -> Iterator[None]:
        """Count what a stream holds. Raises TooManyCallsError if its person holds too much."""
        cost, size = stream.forward.cost, stream.batch_size
        batch = Load(size, size * (cost.input_bytes + cost.row_bytes))
        with self._in_flight.open(stream.person, batch) as stream.held:
            yield

    def _resolve_and_plan(self, spec: ExtractSpec) -> tuple[ModelKey, Plan]:
        """Do both in one thread: each change of threads costs the event loop a turn."""
        key = self._loader.resolve(spec.key)
        return key, plan(self._loader, key, spec)

    async def _with_matrices(self, planned: Plan, spec: ExtractSpec) -> Plan:
        """Return a plan with the matrices of its projection."""
        shapes = {tap.name: tap.output_shape for tap in planned.forward.taps}
        matrices = await self._projections.find(spec.reduction, shapes)
        return replace(planned, forward=replace(planned.forward, matrices=matrices))

    def _with_pca(self, planned: Plan, wanted: str, facts: FeatureFacts, person: Person) -> Plan:
        pca = self._pcas.find(wanted, facts, planned.forward.shapes_before_pca, person)
        forward = replace(planned.forward, pca=pca)
        return replace(planned, forward=forward, row_shapes=forward.row_shapes)

    async def rows(
        self, extraction: Extraction, images: AsyncIterator[SentItem]
    ) -> AsyncGenerator[FeatureRows | Waiting]:
        """Yield the rows of the images, in their order, as batches finish.

        Between them, yield what the request waits for if it needs its model again and has to wait.
        Closing the generator drops the images that wait; decodes and batches that run still finish.
        """
        stream = extraction.stream
        feeder = asyncio.create_task(self._feed(stream, extraction, images))
        feeder.add_done_callback(lambda task: _propagate_error(task, stream))
        try:
            async with aclosing(stream.results()) as results:
                async for rows in results:
                    if isinstance(rows, FeatureRows):
                        extraction.count(rows)
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


def _plan_cores(loaded: LoadedModel, spec: ExtractSpec, batch_size: int) -> CorePlan | None:
    """Return the cores of each pass as far as the request decides them; None: it does not."""
    lanes = loaded.lanes
    # Other frameworks than PyTorch have threads of their own, and use all cores.
    if not batch_size or lanes.device != "cpu" or not loaded.model.is_concurrent:
        return None
    if spec.cores is not None:
        return spec.cores.within(lanes.all_cores, lanes.lane_cores)
    # An image's bits depend on no other image, also not on their number. Compiled code is made for
    # a number of cores.
    if spec.deterministic or spec.options.compiled or not spec.image_count:
        return CorePlan(lanes.lane_cores)
    return plan_cores(
        lanes.all_cores, lanes.width, batch_size=batch_size, image_count=spec.image_count
    )


def _check_supported(loaded: LoadedModel, options: ComputeOptions) -> None:
    for name, chosen in vars(options).items():
        valid = loaded.model.supported.get(name, (getattr(DEFAULT, name),))
        if chosen not in valid:
            raise _option_error(loaded, name, chosen, valid)


def _option_error(
    loaded: LoadedModel, name: str, chosen: Any, valid: Sequence[Any]
) -> InvalidRequestError:
    if chosen in loaded.model.untried.get(name, ()):
        return _untried_error(loaded, name, chosen)
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


def _untried_error(loaded: LoadedModel, name: str, chosen: Any) -> InvalidRequestError:
    word = chosen.value if isinstance(chosen, Enum) else chosen
    return InvalidRequestError(
        f"`{name}` must be left out on {loaded.lanes.device}, got {word}: no check of this version "
        "has run it on a GPU. Leave it out, or start the server with --untried-options and compare "
        "features with the default's",
        field=name,
        subject=str(word),
    )


_UNSUPPORTED = {"compiled": "is not a PyTorch network, so it can't be compiled"}
"""Why a model does not take an option that is true or false, by the option's name."""


def _propagate_error(task: asyncio.Task[None], stream: BatchStream) -> None:
    if not task.cancelled() and (error := task.exception()):
        stream.fail(error)
