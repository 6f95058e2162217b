"""Models in a server's memory and files uploaded to it: each method is one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import IncompleteReplyError
from ..values.model import Model, as_model
from ..values.preprocessing import Preprocessing
from ..values.records import Residency, ResidentModel, Upload, to_record
from .call import Caller
from .connection import Connection
from .uploading import upload, upload_model

LoadProgress = Callable[[str, float], None]
"""Called with a stage of a load (`waiting`, `loading`, `ready`) and the seconds since its start."""


class ModelCalls:
    """Calls ModelService; the methods are those of `Client` by the same names."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def load(self, model: Model | str, progress: LoadProgress | None = None) -> ResidentModel:
        """Load a model and return it as it is in memory; `progress` is called with each stage."""
        request = pb.LoadModelRequest(model=as_model(model).to_spec())
        key, resident = model_id(request.model), None
        for reply in self._caller.listen(self._models.LoadModel, request, key):
            if progress is not None:
                stage = pb.LoadStage.Name(reply.stage).removeprefix("LOAD_STAGE_").lower()
                progress(stage, reply.elapsed_seconds)
            if reply.HasField("resident"):
                resident = to_record(reply.resident)
        if not isinstance(resident, ResidentModel):
            raise IncompleteReplyError(
                f"The server did not confirm that {key} is loaded: try again."
            )
        return resident

    def unload(self, model: Model | str) -> int:
        """Free the memory of a model and return the number of bytes."""
        request = pb.UnloadModelRequest(model=as_model(model).to_spec())
        reply = self._caller.ask(self._models.UnloadModel, request, model_id(request.model))
        return int(reply.freed_bytes)

    def pin(self, model: Model | str, pinned: bool = True) -> ResidentModel:
        """Pin or unpin a model and return it as it is in memory."""
        request = pb.PinModelRequest(model=as_model(model).to_spec(), pinned=pinned)
        reply = self._caller.ask(self._models.PinModel, request, model_id(request.model))
        resident: ResidentModel = to_record(reply.resident)
        return resident

    def residency(self) -> Residency:
        """Return the models in memory and the devices."""
        reply = self._caller.ask(self._models.GetResidency, pb.GetResidencyRequest())
        residency: Residency = to_record(reply)
        return residency

    def upload_weights(self, path: str | Path) -> str:
        """Send a file of weights and return its SHA-256."""
        return upload(self._caller, self._models.UploadWeights, Path(path)).sha256

    def upload_model(
        self, path: str | Path, preprocessing: Preprocessing | Mapping[str, Any] | None = None
    ) -> Model:
        """Send a complete model and return it as `own/SHA256`."""
        method = self._models.UploadWeights
        return upload_model(self._caller, method, Path(path), preprocessing=preprocessing)

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
