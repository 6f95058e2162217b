"""The ModelService: loads, evicts and pins models, and stores uploaded files."""

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
from ..engine.models.residency import Residency
from ..errors import ModelInUseError
from ..sources.base import ModelKey, Uploaded
from ..sources.uploads.records import UploadRecord
from ..sources.uploads.store import Upload, UploadStore
from .messages.models import model_key, resident_message
from .messages.uploads import announcement, upload_message
from .requests import RequestStream, check_model_metadata

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_PROGRESS_SECONDS = 1.0


class ModelServicer(ModelServiceServicer):
    """Controls which models are resident, and which files are uploaded."""

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
        """Load a model and stream its stages; the load continues if the client leaves."""
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
        """Pin a model, or unpin it."""
        key = await self._key(request.model, context)
        await self._residency.pin(key, request.pinned)
        return pb.PinModelResponse(resident=self._resident(key))

    async def GetResidency(
        self, _request: pb.GetResidencyRequest, _context: _Context
    ) -> pb.GetResidencyResponse:
        """Return the resident models and the state of the device."""
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
        return resident_message(self._residency.get_resident(key), self._residency.device)

    async def UploadWeights(
        self, request_iterator: AsyncIterator[pb.UploadWeightsRequest], context: _Context
    ) -> AsyncGenerator[pb.UploadWeightsResponse]:
        """Store a file; bytes that the server already has are not sent again."""
        request = RequestStream(request_iterator, context)
        announced = announcement(await request.header())
        bind_contextvars(sha256=announced.sha256, bytes=announced.size_bytes)
        record = await asyncio.to_thread(self._uploads.find, announced)
        if record is None:
            with self._uploads.begin(announced) as upload:
                offset = await asyncio.to_thread(upload.resume)
                yield pb.UploadWeightsResponse(received_bytes=offset)
                async for chunk in request.parts("chunk"):
                    await asyncio.to_thread(upload.write, chunk)
                record = await _finish(upload)
        self._extractor.forget(Uploaded(record.sha256))
        yield pb.UploadWeightsResponse(
            received_bytes=record.size_bytes, complete=True, upload=upload_message(record)
        )

    async def ListUploads(
        self, _request: pb.ListUploadsRequest, _context: _Context
    ) -> AsyncGenerator[pb.ListUploadsResponse]:
        """Stream the uploaded files, the oldest first."""
        for record in await asyncio.to_thread(self._uploads.records):
            yield pb.ListUploadsResponse(upload=upload_message(record))

    async def DeleteUpload(
        self, request: pb.DeleteUploadRequest, _context: _Context
    ) -> pb.DeleteUploadResponse:
        """Delete an uploaded file, unless a model in memory was loaded from it."""
        bind_contextvars(sha256=request.sha256)
        weights = Uploaded(request.sha256)
        if users := self._residency.users_of(weights):
            names = ", ".join(map(str, users))
            sentence = f"{request.sha256} is in use: unload {names} from memory first"
            raise ModelInUseError(sentence, field="sha256", subject=request.sha256)
        await self._residency.host.drop_all(weights)
        freed_bytes = await asyncio.to_thread(self._uploads.delete, request.sha256)
        self._extractor.forget(weights)
        return pb.DeleteUploadResponse(freed_bytes=freed_bytes)


async def _finish(upload: Upload) -> UploadRecord:
    """Finish an upload; if the call is cancelled meanwhile, wait until its thread is done.

    Otherwise the client's next attempt would resume the file that the thread is renaming.
    """
    finishing = asyncio.ensure_future(asyncio.to_thread(upload.finish))
    try:
        return await asyncio.shield(finishing)
    finally:
        await asyncio.wait({finishing})
        if not finishing.cancelled():
            finishing.exception()  # or asyncio logs that nobody asked for it
