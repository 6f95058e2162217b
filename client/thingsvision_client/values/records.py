"""What a server tells about itself and its work, as frozen values; no protobuf leaves here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from .model import Model
from .pca import PCA, PCAModule
from .preprocessing import Preprocessing
from .provenance import Provenance, UsedPCA


@dataclass(frozen=True)
class PretrainedWeights:
    """Pretrained weights; `state` is `present`, `downloadable`, `missing` or `unspecified`."""

    tag: str
    is_default: bool
    state: str
    preprocessing: Preprocessing | None


@dataclass(frozen=True)
class ModelInfo:
    """A model that a server can run; its default weights come first.

    `backend` is `pt` or `tf`. `task` is empty, `parameter_count` 0 and `input_shape` empty where
    the server does not know them without building the model.
    """

    source: str
    name: str
    pretrained: tuple[PretrainedWeights, ...]
    backend: str
    task: str
    parameter_count: int
    input_shape: tuple[int, ...]


@dataclass(frozen=True)
class ModuleInfo:
    """A module of a model; `output_shape` is that for one image, `reason` why it can't be taken.

    `modality` is `image` or `text`, what it sees. `prefix_token_count` is None unless its output is
    a sequence of tokens: the number of special ones (class, registers) before those of patches.
    """

    name: str
    type: str
    attributes: str
    depth: int
    parent: str
    parameter_count: int
    output_shape: tuple[int, ...]
    output_dtype: str
    call_count: int
    extractable: bool
    reason: str
    modality: str
    prefix_token_count: int | None


@dataclass(frozen=True)
class Timings:
    """Seconds that the server spent where; they overlap."""

    decode_seconds: float
    wait_seconds: float
    forward_seconds: float
    send_seconds: float


@dataclass(frozen=True)
class ResidentModel:
    """A model in a device's memory; `lease_count` requests use it now."""

    model: Model
    model_id: str
    model_sha256: str
    device: str
    resident_bytes: int
    idle_seconds: float
    lease_count: int
    pinned: bool
    load_seconds: float


@dataclass(frozen=True)
class Device:
    """A device of a server, and its memory for models."""

    name: str
    budget_bytes: int
    used_bytes: int
    reserved_bytes: int


@dataclass(frozen=True)
class Upload:
    """A file that was uploaded; `preprocessing` is None where none was declared.

    `format` is `safetensors`, `torch`, `hdf5`, `keras`, `pt2` or `onnx`; `is_model` says whether
    it is a whole model, `own/SHA256`.
    """

    sha256: str
    size_bytes: int
    format: str
    name: str
    preprocessing: Preprocessing | None
    uploaded_unix_seconds: float
    is_model: bool


@dataclass(frozen=True)
class Residency:
    """What is in a server's memory, the most recently used model first."""

    models: tuple[ResidentModel, ...]
    devices: tuple[Device, ...]


_WEIGHTS_STATES = {
    number: name.removeprefix("WEIGHTS_STATE_").lower() for name, number in pb.WeightsState.items()
}


def _convert(name: str, value: Any) -> Any:
    if name == "state":
        return _WEIGHTS_STATES.get(value, "unspecified")
    if isinstance(value, pb.ModelSpec):
        return Model.from_spec(value)
    if isinstance(value, pb.Reduction):
        return MessageToDict(value, preserving_proto_field_name=True)
    kind = RECORDS.get(type(value))
    return value if kind is None else to_record(value)


def to_record(message: Any) -> Any:
    """Return the record of a message: the same fields, repeated ones as tuples."""
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            fields[field.name] = None
            continue
        value = getattr(message, field.name)
        is_repeated = hasattr(value, "extend")
        fields[field.name] = (
            tuple(_convert(field.name, entry) for entry in value)
            if is_repeated
            else _convert(field.name, value)
        )
    return RECORDS[type(message)](**fields)


RECORDS: dict[type, Any] = {
    pb.PretrainedWeights: PretrainedWeights,
    pb.ListModelsResponse: ModelInfo,
    pb.ListModulesResponse: ModuleInfo,
    pb.Preprocessing: Preprocessing,
    pb.UsedPCA: UsedPCA,
    pb.Provenance: Provenance,
    pb.Timings: Timings,
    pb.ResidentModel: ResidentModel,
    pb.Device: Device,
    pb.Upload: Upload,
    pb.PCAModule: PCAModule,
    pb.PCA: PCA,
    pb.GetResidencyResponse: Residency,
}
"""Which record a message becomes; field by field, so a test finds one that was forgotten."""
