"""The FeatureService: reads requests, calls the engine, and sends its results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from structlog.contextvars import bind_contextvars

from thingsvision_proto.frames import frame_writer
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import FeatureServiceServicer

from ..engine.extractor import Extraction, Extractor
from ..engine.waiting import Waiting
from ..errors import InvalidRequestError
from ..monitoring.metrics import Metrics
from ..sources import Sources
from .messages.extraction import (
    extract_spec,
    preprocess_spec,
    skipped_message,
    split_message,
    timings,
)
from .messages.inputs import input_parts, preprocess_reply_header
from .messages.models import model_key, model_message, module_message, waiting_message
from .rdm_reply import RDMReply
from .replies import (
    FrameReply,
    extract_reply_header,
    feature_columns,
    log_extraction,
    log_skipped,
)
from .requests import OpenRequest, RequestStream, check_model_metadata

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_GLOB_CHARACTERS = 1000
"""Maximum length of a glob: the time to match it grows with its length."""


class FeatureServicer(FeatureServiceServicer):
    """Lists models and modules, extracts features, computes RDMs."""

    def __init__(
        self,
        open_request: OpenRequest,
        sources: Sources,
        extractor: Extractor,
        rdm_reply: RDMReply,
        metrics: Metrics,
        server: Callable[[], pb.Server],
        *,
        fast_frames: bool = True,
    ) -> None:
        self._open_request = open_request
        self._sources = sources
        self._extractor = extractor
        self._rdm_reply = rdm_reply
        self._metrics = metrics
        self._server = server
        self._write_frame = frame_writer(pb.ExtractResponse, fast=fast_frames)

    async def ListModels(
        self, request: pb.ListModelsRequest, _context: _Context
    ) -> AsyncGenerator[pb.ListModelsResponse]:
        """Stream the models, sorted by source and name."""
        if len(request.name_glob) > _GLOB_CHARACTERS:
            raise InvalidRequestError(
                f"`name_glob` must have at most {_GLOB_CHARACTERS:,} characters, got "
                f"{len(request.name_glob):,}",
                field="name_glob",
            )
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
        request = self._open_request(request_iterator, context)
        header = await request.header()
        check_model_metadata(context, header.model)
        bind_contextvars(modules=list(header.modules))
        async with self._extractor.open(extract_spec(header)) as opening:
            async with aclosing(opening.waits()) as waits:
                async for waiting in waits:
                    yield pb.ExtractResponse(waiting=waiting_message(waiting))
            extraction = await opening.begin()
            columns = feature_columns(extraction)
            reply = FrameReply(columns, self._metrics, self._write_frame)
            header = extract_reply_header(extraction, columns, self._server())
            yield pb.ExtractResponse(header=header)
            try:
                async with aclosing(self._rows(extraction, request, reply)) as responses:
                    async for response in responses:
                        yield response
            finally:
                log_extraction(extraction, reply.send_seconds)
        # The lease has ended by now: a client that has read the trailer may unload the model.
        yield pb.ExtractResponse(trailer=_trailer(extraction, reply))

    async def _rows(
        self, extraction: Extraction, request: RequestStream, reply: FrameReply
    ) -> AsyncGenerator[pb.ExtractResponse | bytes]:
        """Stream the rows of an extraction, and what happens to it on the way."""
        rows = self._extractor.rows(extraction, request.images())
        async with aclosing(rows) as batches:
            async for batch in batches:
                if isinstance(batch, Waiting):
                    yield pb.ExtractResponse(waiting=waiting_message(batch))
                    continue
                if batch.skipped:
                    log_skipped(batch.skipped)
                    yield pb.ExtractResponse(skipped=skipped_message(batch.skipped))
                if (split := extraction.split_of(batch)) is not None:
                    yield pb.ExtractResponse(split_batch=split_message(split))
                for response in reply.rows(batch.images, batch.arrays):
                    yield response
        for response in reply.end():
            yield response

    async def Preprocess(
        self, request_iterator: AsyncIterator[pb.PreprocessRequest], context: _Context
    ) -> AsyncGenerator[pb.PreprocessResponse]:
        """Stream the images as the inputs of a model."""
        request = self._open_request(request_iterator, context)
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
        request = self._open_request(request_iterator, context)
        header = await request.header()
        if header.HasField("extraction"):
            check_model_metadata(context, header.extraction.model)
        async with aclosing(self._rdm_reply.stream(header, request)) as responses:
            async for response in responses:
                yield response


def _trailer(extraction: Extraction, reply: FrameReply) -> pb.ExtractTrailer:
    return pb.ExtractTrailer(
        **reply.totals(),
        timings=timings(extraction, reply.send_seconds),
        overflow_count=extraction.overflow_count,
        skipped_count=extraction.skipped_count,
        split_batches=map(split_message, extraction.split_batches),
    )
