"""The FeatureService: reads requests, calls the engine, and sends its results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from structlog.contextvars import bind_contextvars

from thingsvision_proto.frames import frame_writer
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import FeatureServiceServicer

from ..engine.extractor import Extractor
from ..metrics import Metrics
from ..sources import Sources
from .messages.extraction import extract_spec, preprocess_spec, skipped_message, timings
from .messages.inputs import input_parts, preprocess_reply_header
from .messages.models import model_key, model_message, module_message
from .rdm_reply import RDMReply
from .replies import (
    FrameReply,
    extract_reply_header,
    feature_columns,
    log_extraction,
    log_skipped,
)
from .requests import RequestStream, check_model_metadata

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class FeatureServicer(FeatureServiceServicer):
    """Lists models and modules, extracts features, computes RDMs."""

    def __init__(
        self,
        sources: Sources,
        extractor: Extractor,
        rdm_reply: RDMReply,
        metrics: Metrics,
        *,
        fast_frames: bool = True,
    ) -> None:
        self._sources = sources
        self._extractor = extractor
        self._rdm_reply = rdm_reply
        self._metrics = metrics
        self._write_frame = frame_writer(pb.ExtractResponse, fast=fast_frames)

    async def ListModels(
        self, request: pb.ListModelsRequest, _context: _Context
    ) -> AsyncGenerator[pb.ListModelsResponse]:
        """Stream the models, sorted by source and name."""
        messages = await asyncio.to_thread(self._models, request.source, request.name_glob)
        with self._sources.pause_opening():
            for message in messages:
                yield message

    def _models(self, source: str, name_glob: str) -> list[pb.ListModelsResponse]:
        return list(map(model_message, self._sources.entries(source, name_glob)))

    async def ListModules(
        self, request: pb.ListModulesRequest, context: _Context
    ) -> AsyncGenerator[pb.ListModulesResponse]:
        """Stream the modules of a model in order of execution."""
        check_model_metadata(context, request.model)
        key = model_key(request.model)
        bind_contextvars(model=str(key))
        for module in (await self._extractor.structure(key)).modules:
            yield module_message(module)

    async def Extract(
        self, request_iterator: AsyncIterator[pb.ExtractRequest], context: _Context
    ) -> AsyncGenerator[pb.ExtractResponse | bytes]:
        """Stream the features of the images."""
        request = RequestStream(request_iterator, context)
        header = await request.header()
        check_model_metadata(context, header.model)
        bind_contextvars(modules=list(header.modules))
        async with self._extractor.open(extract_spec(header)) as extraction:
            columns = feature_columns(extraction)
            reply = FrameReply(columns, self._metrics, self._write_frame)
            yield pb.ExtractResponse(header=extract_reply_header(extraction, columns))
            try:
                rows = self._extractor.rows(extraction, request.images())
                async with aclosing(rows) as batches:
                    async for batch in batches:
                        if batch.skipped:
                            log_skipped(batch.skipped)
                            yield pb.ExtractResponse(skipped=skipped_message(batch.skipped))
                        for response in reply.rows(batch.images, batch.arrays):
                            yield response
                for response in reply.end():
                    yield response
            finally:
                log_extraction(extraction, reply.send_seconds)
        # The lease has ended by now: a client that has read the trailer may unload the model.
        taken = timings(extraction, reply.send_seconds)
        yield pb.ExtractResponse(
            trailer=pb.ExtractTrailer(
                **reply.totals(),
                timings=taken,
                overflow_count=extraction.overflow_count,
                skipped_count=extraction.skipped_count,
            )
        )

    async def Preprocess(
        self, request_iterator: AsyncIterator[pb.PreprocessRequest], context: _Context
    ) -> AsyncGenerator[pb.PreprocessResponse]:
        """Stream the images as the inputs of a model."""
        request = RequestStream(request_iterator, context)
        header = await request.header()
        check_model_metadata(context, header.model)
        bind_contextvars(model=str(model_key(header.model)))
        transform = await self._extractor.input_transform(preprocess_spec(header))
        known = await self._extractor.value_range(transform) if header.value_range else None
        yield preprocess_reply_header(transform, known)
        async with aclosing(self._extractor.inputs(transform, request.images())) as inputs:
            index = 0
            async for values in inputs:
                for part in input_parts(index, values):
                    yield part
                index += 1

    async def ComputeRDM(
        self, request_iterator: AsyncIterator[pb.ComputeRDMRequest], context: _Context
    ) -> AsyncGenerator[pb.ComputeRDMResponse | bytes]:
        """Stream progress, then the RDMs of images, or of features that the client sends."""
        request = RequestStream(request_iterator, context)
        header = await request.header()
        if header.HasField("extraction"):
            check_model_metadata(context, header.extraction.model)
        async with aclosing(self._rdm_reply.stream(header, request)) as responses:
            async for response in responses:
                yield response
