"""The PCAService: fits PCAs on features of images, lists and deletes them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import grpc
from structlog.contextvars import bind_contextvars

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import PCAServiceServicer

from ..access.person import Person, caller
from ..engine.extractor import Extraction, Extractor
from ..engine.pca.fitted import Axes, PCADescription, PCAModule, PCARecord
from ..engine.pca.fitting import Fitter
from ..engine.pca.store import PCAStore
from ..engine.planning import ExtractSpec
from ..engine.progress import Progress
from ..engine.waiting import Waiting
from ..errors import InvalidRequestError
from ..rdm.pca import Components
from ..version import server_version
from .collecting import Arrays, RowCollection, collect_rows, open_collection
from .messages.extraction import (
    COMPARED_DTYPES,
    element_type,
    extract_spec,
    skipped_message,
)
from .messages.models import waiting_message
from .messages.reductions import pca_message
from .replies import feature_columns, log_extraction, log_skipped
from .requests import OpenRequest, RequestStream, check_model_metadata

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class PCAServicer(PCAServiceServicer):
    """Fits, lists and deletes PCAs; `new_fitter` takes a number of components."""

    def __init__(
        self,
        open_request: OpenRequest,
        extractor: Extractor,
        pcas: PCAStore,
        new_fitter: Callable[[int], Fitter],
    ) -> None:
        self._open_request = open_request
        self._extractor = extractor
        self._pcas = pcas
        self._new_fitter = new_fitter

    async def FitPCA(
        self, request_iterator: AsyncIterator[pb.FitPCARequest], context: _Context
    ) -> AsyncGenerator[pb.FitPCAResponse]:
        """Stream progress, then the PCA of the images' features."""
        request = self._open_request(request_iterator, context)
        header = await request.header()
        check_model_metadata(context, header.extraction.model)
        bind_contextvars(modules=list(header.extraction.modules), pca=header.name)
        fitter, components = self._new_fitter(header.component_count), list[Components]()
        with ExitStack() as stack:
            async with aclosing(self._collect(header, request, fitter, stack)) as steps:
                async for step in steps:
                    if isinstance(step, Waiting):
                        yield pb.FitPCAResponse(waiting=waiting_message(step))
                        continue
                    collected = step
                    if collected.progress_is_due():
                        yield _progress(pb.PCA_STAGE_COLLECTING, len(collected.images), 0)
            async with aclosing(fitter.fit(collected.spool)) as results:
                async for result in results:
                    if isinstance(result, Progress):
                        counts = (result.done_count, result.total_count)
                        yield _progress(pb.PCA_STAGE_FITTING, *counts)
                    else:
                        components = result
        keep = partial(self._keep, header, collected, components, person=caller())
        record = await asyncio.to_thread(keep)
        if collected.skipped:
            log_skipped(collected.skipped)
            yield pb.FitPCAResponse(skipped=skipped_message(collected.skipped))
        yield pb.FitPCAResponse(pca=pca_message(record))

    async def _collect(
        self, header: pb.FitPCAHeader, request: RequestStream, fitter: Fitter, stack: ExitStack
    ) -> AsyncGenerator[RowCollection | Waiting]:
        """Collect the features of images; the model's lease ends with the last row."""

        def check(collected: RowCollection, images: Sequence[str], arrays: Arrays) -> None:
            columns = collected.spool.columns
            fitter.check_size(len(collected.images) + len(images), columns)
            fitter.check_rows(images, columns, arrays)

        element_type(header.extraction.element_type, COMPARED_DTYPES)
        async with self._extractor.open(_spec(header)) as opening:
            async with aclosing(opening.waits()) as waits:
                async for waiting in waits:
                    yield waiting
            extraction = await opening.begin()
            open_spool = partial(fitter.open_spool, image_count=header.extraction.image_count)
            collected = open_collection(feature_columns(extraction), open_spool, stack)
            collected.extraction = extraction
            # So that an error in the name, or for lack of room, comes before the work.
            description = _description(header, extraction)
            await asyncio.to_thread(self._pcas.check_new, description, caller())
            extraction.preparation.digests = {}
            rows = self._extractor.rows(extraction, request.images())
            try:
                async with aclosing(collect_rows(rows, collected, check)) as steps:
                    async for step in steps:
                        yield step
            finally:
                log_extraction(extraction, 0.0)

    def _keep(
        self,
        header: pb.FitPCAHeader,
        collected: RowCollection,
        components: Sequence[Components],
        person: Person,
    ) -> PCARecord:
        extraction = collected.extraction
        if extraction is None or extraction.preparation.digests is None:
            raise ValueError("a PCA must be fitted on images")
        by_index = sorted(extraction.preparation.digests.items())
        rows = zip(by_index, collected.images, strict=True)
        lines = (f"{digest}  {name}\n" for (_, digest), name in rows)
        images = "".join(lines)
        description = _description(header, extraction)
        pairs = list(zip(description.modules, components, strict=True))
        description = replace(
            description,
            image_count=len(collected.images),
            images_sha256=hashlib.sha256(images.encode()).hexdigest(),
            split_batches=tuple(extraction.split_batches),
            modules=tuple(_with_variances(module, found) for module, found in pairs),
        )
        axes = {module.name: Axes(found.mean, found.axes) for module, found in pairs}
        return self._pcas.keep(description, images, axes, person, shared=header.share)

    async def ListPCAs(
        self, _request: pb.ListPCAsRequest, _context: _Context
    ) -> AsyncGenerator[pb.ListPCAsResponse]:
        """Stream the PCAs that the caller owns or may see, oldest first."""
        for record in await asyncio.to_thread(self._pcas.records, caller()):
            yield pb.ListPCAsResponse(pca=pca_message(record))

    async def DeletePCA(
        self, request: pb.DeletePCARequest, _context: _Context
    ) -> pb.DeletePCAResponse:
        """Delete a PCA; its bytes go with its last owner."""
        bind_contextvars(pca=request.pca)
        freed_bytes = await asyncio.to_thread(self._pcas.delete, request.pca, caller())
        return pb.DeletePCAResponse(freed_bytes=freed_bytes)


def _spec(header: pb.FitPCAHeader) -> ExtractSpec:
    spec = extract_spec(header.extraction)
    if spec.pca:
        raise InvalidRequestError(
            f"a PCA must be fitted on features, not on scores of another PCA ({spec.pca!r}): leave "
            "`pca` out of the reduction",
            field="extraction.reduction.pca",
            subject=spec.pca,
        )
    return spec


def _description(header: pb.FitPCAHeader, extraction: Extraction) -> PCADescription:
    """Return the description of the PCA, without its images and variances."""
    loaded = extraction.loaded
    shapes = extraction.plan.forward.shapes_before_pca
    return PCADescription(
        name=header.name,
        component_count=header.component_count,
        image_count=0,
        images_sha256="",
        facts=extraction.facts,
        modules=tuple(PCAModule(name, shape, (), ()) for name, shape in shapes.items()),
        batch_size=extraction.batch_size,
        deterministic=extraction.deterministic,
        device=loaded.lanes.device,
        framework=loaded.model.framework,
        server_version=server_version(),
        cores=None if extraction.cores is None else vars(extraction.cores),
    )


def _with_variances(module: PCAModule, found: Components) -> PCAModule:
    return replace(
        module,
        explained_variance=tuple(found.variances.tolist()),
        explained_variance_ratio=tuple((found.variances / found.total_variance).tolist()),
        arithmetic=found.arithmetic,
    )


def _progress(stage: pb.PCAStage, done_count: int, total_count: int) -> pb.FitPCAResponse:
    progress = pb.PCAProgress(stage=stage, done_count=done_count, total_count=total_count)
    return pb.FitPCAResponse(progress=progress)
