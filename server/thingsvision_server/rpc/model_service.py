"""The ModelService: loads, evicts and pins models, and stores uploaded files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from structlog.contextvars import bind_contextvars

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import ModelServiceServicer

from ..access.person import sender_name, viewer
from ..engine.extractor import Extractor
from ..engine.models.residency import Residency
from ..errors import NotFoundError
from ..sources.base import ModelKey, Pretrained, Uploaded
from ..sources.uploads.store import UploadStore
from . import even_answers
from .messages.models import decode_enum, load_stage, model_key, resident_message
from .messages.uploads import announcement, upload_message
from .requests import OpenRequest, check_model_metadata
from .residency_reply import ResidencyReply
from .upload_checks import UploadChecks

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_PROGRESS_SECONDS = 1.0

_SCOPES = {
    pb.RESIDENCY_SCOPE_UNSPECIFIED: "cluster",
    pb.RESIDENCY_SCOPE_SERVER: "server",
    pb.RESIDENCY_SCOPE_CLUSTER: "cluster",
}


class ModelServicer(ModelServiceServicer):
    """Controls which models are resident, and which files are uploaded."""

    def __init__(
        self,
        open_request: OpenRequest,
        extractor: Extractor,
        residency: Residency,
        uploads: UploadStore,
        reply: ResidencyReply,
        *,
        checks: UploadChecks,
    ) -> None:
        self._checks = checks
        self._open_request = open_request
        self._extractor = extractor
        self._residency = residency
        self._uploads = uploads
        self._reply = reply

    async def _key(self, spec: pb.ModelSpec, context: _Context) -> ModelKey:
        check_model_metadata(context, spec)
        key = await self._extractor.resolve(model_key(spec))
        bind_contextvars(model=str(key))
        return key

    async def _key_in_memory(self, spec: pb.ModelSpec, context: _Context) -> ModelKey:
        """Return the key of a model that may be in memory, also if its file is gone from the disk.

        Otherwise what was removed by hand would stay pinned until the server ends.
        """
        try:
            return await self._key(spec, context)
        except NotFoundError:
            wanted = model_key(spec)
            for key in [one.key for one in self._residency.residents()]:
                is_named = (key.source, key.name) == (wanted.source, wanted.name)
                if (
                    is_named
                    and isinstance(key.weights, Uploaded)
                    and wanted.weights in (key.weights, Pretrained())
                    and await asyncio.to_thread(self._uploads.may_see, key.weights.sha256)
                ):
                    return key
            raise

    async def LoadModel(
        self, request: pb.LoadModelRequest, context: _Context
    ) -> AsyncGenerator[pb.LoadModelResponse]:
        """Load a model and stream its stages; a load that has begun goes on without the client."""
        started = time.monotonic()
        key = await self._key(request.model, context)
        resident = self._residency.begin_lease(key)
        try:
            stage, told_at = pb.LOAD_STAGE_UNSPECIFIED, started
            async with aclosing(self._residency.wait_until_ready(resident)) as looks:
                async for waiting in looks:
                    now = time.monotonic()
                    if load_stage(waiting) == stage and now - told_at < _PROGRESS_SECONDS:
                        continue
                    stage, told_at = load_stage(waiting), now
                    yield pb.LoadModelResponse(
                        stage=stage,
                        elapsed_seconds=now - started,
                        place=waiting.place,
                        queue_length=waiting.count,
                        reason=waiting.reason,
                    )
            message = self._resident(key)
        finally:
            self._residency.end_lease(resident)
        yield pb.LoadModelResponse(
            stage=pb.LOAD_STAGE_READY,
            elapsed_seconds=time.monotonic() - started,
            resident=message,
        )

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: _Context
    ) -> pb.UnloadModelResponse:
        """Evict an idle model."""
        freed_bytes = await self._residency.unload(
            await self._key_in_memory(request.model, context)
        )
        return pb.UnloadModelResponse(freed_bytes=freed_bytes, server=self._reply.address)

    async def PinModel(self, request: pb.PinModelRequest, context: _Context) -> pb.PinModelResponse:
        """Pin a model, or unpin it."""
        find = self._key if request.pinned else self._key_in_memory
        key = await find(request.model, context)
        bind_contextvars(pinned=request.pinned)
        await self._residency.pin(key, request.pinned)
        return pb.PinModelResponse(resident=self._resident(key))

    async def GetResidency(
        self, request: pb.GetResidencyRequest, _context: _Context
    ) -> pb.GetResidencyResponse:
        """Return the models in memory and the state of the devices, by default of the cluster.

        `PrivateModels` leaves models of others' uploads out.
        """
        if decode_enum("scope", request.scope, _SCOPES) == "server":
            return self._reply.own()
        return await self._reply.of_cluster()

    def _resident(self, key: ModelKey) -> pb.ResidentModel:
        message = resident_message(self._residency.get_resident(key), self._residency.device)
        message.server = self._reply.address
        return message

    async def UploadWeights(
        self, request_iterator: AsyncIterator[pb.UploadWeightsRequest], context: _Context
    ) -> AsyncGenerator[pb.UploadWeightsResponse]:
        """Store a file; bytes that the server already has are not sent again."""
        began = time.monotonic()
        request = self._open_request(request_iterator, context)
        announced = announcement(await request.header(), sender_name(viewer()))
        bind_contextvars(sha256=announced.sha256, bytes=announced.size_bytes)
        record = await asyncio.to_thread(self._uploads.find, announced)
        if record is None:
            with self._uploads.begin(announced) as upload:
                offset = await asyncio.to_thread(upload.resume)
                if even_answers.hides_from(viewer()):  # nobody learns whether another has sent it
                    await even_answers.wait_for_step(began)
                yield pb.UploadWeightsResponse(received_bytes=offset)
                async for chunk in request.chunks("chunk"):
                    await asyncio.to_thread(upload.write, chunk)
                record = await self._checks.finish(upload)
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
        """Take an uploaded file from the caller; delete it if nobody else owns it.

        Raises ModelInUseError if a model in memory, of any server, was loaded from those bytes.
        """
        bind_contextvars(sha256=request.sha256)
        weights = Uploaded(request.sha256)
        models = [str(key) for key in self._residency.users_of(weights)]
        freed_bytes = await asyncio.to_thread(self._uploads.delete, request.sha256, models)
        if freed_bytes:
            await self._residency.host.drop_all(weights)
        self._extractor.forget(weights)
        return pb.DeleteUploadResponse(freed_bytes=freed_bytes)
