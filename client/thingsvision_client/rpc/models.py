"""Models in a server's memory and files uploaded to it: each method is one call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import (
    IncompleteReplyError,
    InvalidRequestError,
    NotResidentError,
    ThingsvisionError,
    UnavailableError,
)
from ..values.model import Model, as_model
from ..values.preprocessing import Preprocessing
from ..values.records import Residency, ResidentModel, Upload, to_record
from .call import Caller
from .cluster import ALL, Call, call_server, call_servers, find_server, serving_addresses
from .connection import Connection
from .uploading import upload, upload_model

T = TypeVar("T")

LoadProgress = Callable[[str, float], None]
"""Called with a stage of a load (`waiting`, `loading`, `ready`) and the seconds since its start."""


class ModelCalls:
    """Calls ModelService; the methods are those of `Client` by the same names."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def load(
        self, model: Model | str, progress: LoadProgress | None = None, on: str | None = None
    ) -> list[ResidentModel]:
        """Load a model and return it as it is in memory; `progress` is called with each stage."""
        request = pb.LoadModelRequest(model=as_model(model).to_spec())
        return self._call(on, partial(_load, request, progress and _one_at_a_time(progress)))

    def unload(self, model: Model | str, on: str | None = None) -> int:
        """Free the memory of a model and return the number of bytes."""
        request = pb.UnloadModelRequest(model=as_model(model).to_spec())
        key = model_id(request.model)
        replies = self._call(
            on,
            lambda caller, models: caller.ask(models.UnloadModel, request, key),
            ignored=NotResidentError,
        )
        return sum(int(reply.freed_bytes) for reply in replies)

    def pin(
        self, model: Model | str, pinned: bool = True, on: str | None = None
    ) -> list[ResidentModel]:
        """Pin or unpin a model and return it as it is in memory."""
        request = pb.PinModelRequest(model=as_model(model).to_spec(), pinned=pinned)
        key = model_id(request.model)
        replies = self._call(
            on,
            lambda caller, models: caller.ask(models.PinModel, request, key),
            ignored=None if pinned else NotResidentError,
        )
        return [to_record(reply.resident) for reply in replies]

    def residency(self, scope: str = "cluster") -> Residency:
        """Return the models in memory and the devices of one server, or of all."""
        request = pb.GetResidencyRequest()
        if scope not in ("cluster", "server"):
            sentence = f"`scope` must be 'cluster' or 'server', got {scope!r}."
            raise InvalidRequestError(sentence, field="scope", subject=scope)
        if scope == "server":  # older servers don't know the field, and tell about themselves
            request.scope = pb.RESIDENCY_SCOPE_SERVER
        reply = self._caller.ask(self._models.GetResidency, request)
        residency: Residency = to_record(reply)
        return residency

    def _call(
        self, on: str | None, call: Call[T], *, ignored: type[ThingsvisionError] | None = None
    ) -> list[T]:
        """Make a call to whichever server answers, or to the servers that `on` names."""
        if on is None:
            return [call_server(self._connection, "", call)]
        residency = self.residency()
        if on == ALL:
            addresses = serving_addresses(residency)
            if not addresses:
                raise UnavailableError("No server of the cluster takes calls: all of them drain.")
            return call_servers(self._connection, addresses, call, ignored=ignored)
        return [call_server(self._connection, find_server(residency, on), call)]

    def upload_weights(self, path: str | Path, *, share: bool = False) -> str:
        """Send a file of weights and return its SHA-256."""
        method = self._models.UploadWeights
        return upload(self._caller, method, Path(path), share=share).sha256

    def upload_model(
        self,
        path: str | Path,
        preprocessing: Preprocessing | Mapping[str, Any] | None = None,
        *,
        share: bool = False,
    ) -> Model:
        """Send a complete model and return it as `own/SHA256`."""
        return upload_model(
            self._caller,
            self._models.UploadWeights,
            Path(path),
            preprocessing=preprocessing,
            share=share,
        )

    def uploads(self) -> list[Upload]:
        """Return the uploaded files, the oldest first."""
        replies = self._caller.listen(self._models.ListUploads, pb.ListUploadsRequest())
        return [to_record(reply.upload) for reply in replies]

    def delete_upload(self, sha256: str) -> int:
        """Delete an uploaded file and return the number of bytes."""
        request = pb.DeleteUploadRequest(sha256=sha256)
        return int(self._caller.ask(self._models.DeleteUpload, request).freed_bytes)

    @property
    def _models(self) -> Any:
        return self._connection.stubs.models

    @property
    def _caller(self) -> Caller:
        return self._connection.caller


def _one_at_a_time(progress: LoadProgress) -> LoadProgress:
    """Return a function that several threads may call, of which `progress` need not know."""
    turn = threading.Lock()

    def tell(stage: str, seconds: float) -> None:
        with turn:
            progress(stage, seconds)

    return tell


def _load(
    request: pb.LoadModelRequest, progress: LoadProgress | None, caller: Caller, models: Any
) -> ResidentModel:
    key, resident = model_id(request.model), None
    for reply in caller.listen(models.LoadModel, request, key):
        if progress is not None:
            stage = pb.LoadStage.Name(reply.stage).removeprefix("LOAD_STAGE_").lower()
            progress(stage, reply.elapsed_seconds)
        if reply.HasField("resident"):
            resident = to_record(reply.resident)
    if not isinstance(resident, ResidentModel):
        raise IncompleteReplyError(f"The server did not confirm that {key} is loaded: try again.")
    return resident
