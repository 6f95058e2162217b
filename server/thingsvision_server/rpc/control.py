"""The ModelService: warm up, evict, pin, look, and keep uploaded weights."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeAlias

import grpc
from structlog.contextvars import bind_contextvars

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import ModelServiceServicer

from ..engine.extractor import Extractor
from ..engine.residency import Residency
from ..sources.base import ModelKey
from ..sources.uploads import UploadStore
from .messages import model_key, resident_message
from .requests import RequestStream, check_model_metadata

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_PROGRESS_SECONDS = 1.0


class ModelServicer(ModelServiceServicer):
    """Controls which models are resident."""

    def __init__(self, extractor: Extractor, residency: Residency, uploads: UploadStore) -> None:
        self._extractor = extractor
        self._residency = residency
        self._uploads = uploads

    async def _key(self, spec: pb.ModelSpec, context: _Context) -> ModelKey:
        check_model_metadata(context, spec)
        key = await self._extractor.resolve(model_key(spec))
        bind_contextvars(model=str(key))
        return key

    async def LoadModel(
        self, request: pb.LoadModelRequest, context: _Context
    ) -> AsyncGenerator[pb.LoadModelResponse]:
        """Load a model and stream its stages; whoever stops listening does not stop the load."""
        started = time.monotonic()
        key = await self._key(request.model, context)
        loading = asyncio.ensure_future(self._load(key))
        stage = None
        try:
            while not loading.done():
                stage = self._stage(key)
                elapsed = time.monotonic() - started
                yield pb.LoadModelResponse(stage=stage, elapsed_seconds=elapsed)
                await asyncio.wait({loading}, timeout=_PROGRESS_SECONDS)
            resident = await loading
        finally:
            loading.cancel()
        yield pb.LoadModelResponse(
            stage=pb.LOAD_STAGE_READY,
            elapsed_seconds=time.monotonic() - started,
            resident=resident,
        )

    async def _load(self, key: ModelKey) -> pb.ResidentModel:
        async with self._residency.lease(key):
            pass
        return self._resident(key)

    def _stage(self, key: ModelKey) -> pb.LoadStage:
        resident = self._residency.find(key)
        waits = resident is not None and resident.waits_for_memory
        return pb.LOAD_STAGE_WAITING if waits else pb.LOAD_STAGE_LOADING

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: _Context
    ) -> pb.UnloadModelResponse:
        """Evict an idle model."""
        freed_bytes = await self._residency.unload(await self._key(request.model, context))
        return pb.UnloadModelResponse(freed_bytes=freed_bytes)

    async def PinModel(self, request: pb.PinModelRequest, context: _Context) -> pb.PinModelResponse:
        """Keep a model, or let it go again."""
        key = await self._key(request.model, context)
        await self._residency.pin(key, request.pinned)
        return pb.PinModelResponse(resident=self._resident(key))

    async def GetResidency(
        self, _request: pb.GetResidencyRequest, _context: _Context
    ) -> pb.GetResidencyResponse:
        """Tell which models are resident."""
        residency = self._residency
        device = pb.Device(
            name=residency.device,
            budget_bytes=residency.budget_bytes,
            used_bytes=residency.used_bytes,
            reserved_bytes=residency.reserved_bytes,
        )
        models = [resident_message(one, residency.device) for one in residency.residents()]
        return pb.GetResidencyResponse(models=models, devices=[device])

    def _resident(self, key: ModelKey) -> pb.ResidentModel:
        return resident_message(self._residency.loaded_resident(key), self._residency.device)

    async def UploadWeights(
        self, request_iterator: AsyncIterator[pb.UploadWeightsRequest], _context: _Context
    ) -> AsyncGenerator[pb.UploadWeightsResponse]:
        """Keep a state dict; what the server has already is not sent again."""
        request = RequestStream(request_iterator)
        header = await request.header()
        bind_contextvars(sha256=header.sha256, bytes=header.size_bytes)
        if await asyncio.to_thread(self._uploads.has, header.sha256):
            size = header.size_bytes
            yield pb.UploadWeightsResponse(received_bytes=size, complete=True)
            return
        with self._uploads.begin(header.sha256, header.size_bytes) as upload:
            yield pb.UploadWeightsResponse(received_bytes=0)
            async for chunk in request.parts("chunk"):
                await asyncio.to_thread(upload.write, chunk)
            await asyncio.to_thread(upload.finish)
        yield pb.UploadWeightsResponse(received_bytes=header.size_bytes, complete=True)
