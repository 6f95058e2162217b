"""What a server keeps, models in memory and uploaded files: each method is one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import ModelServiceStub

from ..errors import IncompleteReplyError
from ..values.model import Model, as_model
from ..values.records import Preprocessing, Residency, ResidentModel, Upload, to_record
from .call import Caller

LoadProgress = Callable[[str, float], None]
"""Hears a stage of a load (`waiting`, `loading`, `ready`) and the seconds since its request."""


class ModelControl:
    """Calls the part of a server that keeps models; every method raises ThingsvisionError."""

    def __init__(self, caller: Caller, channel: Any) -> None:
        self._caller = caller
        self._models: Any = ModelServiceStub(channel)  # type: ignore[no-untyped-call]

    def load(self, model: Model | str, progress: LoadProgress | None = None) -> ResidentModel:
        """Load a model ahead of its first use, and return it as it lies in memory."""
        request = pb.LoadModelRequest(model=as_model(model).to_spec())
        key, resident = model_id(request.model), None
        for reply in self._caller.listen(self._models.LoadModel, request, key):
            if progress is not None:
                stage = pb.LoadStage.Name(reply.stage).removeprefix("LOAD_STAGE_").lower()
                progress(stage, reply.elapsed_seconds)
            if reply.HasField("resident"):
                resident = to_record(reply.resident)
        if not isinstance(resident, ResidentModel):
            raise IncompleteReplyError(f"The server did not say that {key} is loaded: try again.")
        return resident

    def unload(self, model: Model | str) -> int:
        """Free a model's memory on the device, and return how many bytes that gave."""
        request = pb.UnloadModelRequest(model=as_model(model).to_spec())
        reply = self._caller.ask(self._models.UnloadModel, request, model_id(request.model))
        return int(reply.freed_bytes)

    def pin(self, model: Model | str, pinned: bool = True) -> ResidentModel:
        """Keep a model in memory until it is unpinned (loads it if need be), or let it go."""
        request = pb.PinModelRequest(model=as_model(model).to_spec(), pinned=pinned)
        reply = self._caller.ask(self._models.PinModel, request, model_id(request.model))
        resident: ResidentModel = to_record(reply.resident)
        return resident

    def residency(self) -> Residency:
        """Return which models are in memory, and the server's devices."""
        reply = self._caller.ask(self._models.GetResidency, pb.GetResidencyRequest())
        residency: Residency = to_record(reply)
        return residency

    def upload_weights(self, path: str | Path) -> str:
        """Send a file of weights and return its SHA-256: `Model(source, name, "sha256:...")`.

        Weights are a state dict (safetensors, or saved by PyTorch) or a Keras file. A server that
        has the file is sent nothing; a broken upload goes on where it stopped.
        """
        from .uploading import upload

        return upload(self._caller, self._models.UploadWeights, Path(path)).sha256

    def upload_model(
        self, path: str | Path, preprocessing: Preprocessing | Mapping[str, Any] | None = None
    ) -> Model:
        """Send a whole model (.pt2 of torch.export, .onnx, .keras) and return it, `own/SHA256`.

        `preprocessing` says how images become its inputs, e.g. `Preprocessing(resize_pixels=256,
        crop_pixels=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))` or such a dict.
        Without it the model takes tensors only. It is kept with the file: another declaration
        for the same file is an InvalidRequestError.
        """
        from .uploading import upload_model

        method = self._models.UploadWeights
        return upload_model(self._caller, method, Path(path), preprocessing=preprocessing)

    def uploads(self) -> list[Upload]:
        """Return the files that were uploaded to the server, the oldest first."""
        replies = self._caller.listen(self._models.ListUploads, pb.ListUploadsRequest())
        return [to_record(reply.upload) for reply in replies]

    def delete_upload(self, sha256: str) -> int:
        """Delete an uploaded file, and return how many bytes that gave.

        Raises UnknownWeightsError, and ModelInUseError while a model of it is in memory.
        """
        request = pb.DeleteUploadRequest(sha256=sha256)
        return int(self._caller.ask(self._models.DeleteUpload, request).freed_bytes)
