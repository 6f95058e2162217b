"""What a server tells about itself and its work, as frozen values; no protobuf leaves here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..display.cards import Shown, shape_text
from .axes import axis_names
from .model import Model
from .pca import PCA, PCAModule
from .preprocessing import Preprocessing
from .preprocessing_step import PreprocessingStep
from .provenance import Provenance, UsedPCA


@dataclass(frozen=True, repr=False)
class PretrainedWeights(Shown):
    """Pretrained weights of a model.

    Attributes:
        tag: The tag, as in `source/name@tag`.
        is_default: Whether a model named without weights has these.
        state: `present`, `downloadable`, `missing` or `unspecified`.
        preprocessing: How images become inputs; None if only known once the weights are loaded.

    """

    tag: str
    is_default: bool
    state: str
    preprocessing: Preprocessing | None

    def _facts(self) -> dict[str, Any]:
        return {
            "tag": self.tag,
            "default": True if self.is_default else None,
            "state": self.state,
            "preprocessing": None if self.preprocessing is None else str(self.preprocessing),
        }


@dataclass(frozen=True, repr=False)
class ModelInfo(Shown):
    """A model that a server can run.

    Attributes:
        source: Its source, such as `torchvision`.
        name: Its name in the source.
        pretrained: Its pretrained weights, the default ones first; empty if there are none.
        backend: `pt` (PyTorch), `tf` (TensorFlow) or `onnx` (onnxruntime).
        task: Its purpose, such as `classification`; empty if unknown until it is built.
        parameter_count: Number of its parameters; 0 if unknown until it is built.
        input_shape: Shape of one image's input, such as (3, 224, 224); empty if unknown until it is
            built.

    """

    source: str
    name: str
    pretrained: tuple[PretrainedWeights, ...]
    backend: str
    task: str
    parameter_count: int
    input_shape: tuple[int, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of its pretrained weights, the default ones first."""
        return tuple(one.tag for one in self.pretrained)

    def _facts(self) -> dict[str, Any]:
        return {
            "name": f"{self.source}/{self.name}",
            "weights": [one.tag for one in self.pretrained],
            "parameters": self.parameter_count or None,
            "input": self.input_shape,
            "backend": self.backend,
            "task": self.task,
        }


@dataclass(frozen=True, repr=False)
class ModuleInfo(Shown):
    """A module of a model.

    Attributes:
        name: Its name, as `extract` takes it; empty for the whole model.
        type: Its class, such as `Conv2d`.
        attributes: Its settings, as it prints them.
        depth: Number of modules above it; 0 is the model.
        parent: Name of the module that contains it.
        parameter_count: Number of parameters in it and in the modules below it.
        output_shape: Shape of its output for one image at the model's own input size.
        output_dtype: Element type of its output, such as `float32`.
        call_count: How often it runs in a forward pass. `name` is its last call, `name@t=K` call K
            (from 0), and `name@all` all calls along a leading axis.
        extractable: Whether it can be extracted.
        reason: Why it can't be extracted.
        modality: What it sees: `image` or `text`.
        prefix_token_count: Number of special tokens (class, registers) before the patch tokens;
            None unless its output is a token sequence.
        position: Its place in the network's own order; 0 for all if that is the order of execution.
        classes: Its class and PyTorch's classes above that, nearest first, with their Python
            modules; empty for networks of other frameworks.
        output_axes: What each axis of `output_shape` is: `channels`, `height`, `width`, `tokens`,
            `features`, or empty if it is not known.

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
    position: int = 0
    classes: tuple[str, ...] = ()
    output_axes: tuple[str, ...] = ()

    def _facts(self) -> dict[str, Any]:
        return {
            "name": self.name or "(the whole model)",
            "type": self.type,
            "output": shape_text(self.output_shape, self.output_dtype)
            if self.output_shape
            else None,
            "parameters": self.parameter_count or None,
            "calls": self.call_count if self.call_count != 1 else None,
            "not extractable": None if self.extractable else self.reason,
        }


def _output(module: ModuleInfo) -> str | None:
    shape = module.output_shape
    return shape_text(shape, module.output_dtype) if shape else None


MODEL_COLUMNS = ("source", "name", "tags", "parameter_count", "input_shape", "backend", "task")
"""Columns of a table of models."""

MODULE_COLUMNS = (
    *("name", "type", "output_shape", "output_dtype", "parameter_count", "call_count"),
    *("extractable", "reason"),
)
"""Columns of a table of modules."""


@dataclass(frozen=True)
class Timings:
    """Seconds that the server spent on a call, by kind of work; they overlap.

    Attributes:
        decode_seconds: Decoding and preprocessing, over all threads.
        wait_seconds: Waiting for the device.
        forward_seconds: Forward passes that had images of this request.
        send_seconds: Encoding the features, and waiting for the reader.

    """

    decode_seconds: float
    wait_seconds: float
    forward_seconds: float
    send_seconds: float


@dataclass(frozen=True, repr=False)
class ResidentModel(Shown):
    """A model in a device's memory.

    Attributes:
        model: The model, with its weights named in full.
        model_id: Its id, `source/name@weights`.
        model_sha256: SHA-256 of its parameters and buffers.
        device: The device that holds it.
        resident_bytes: Its memory on the device.
        idle_seconds: Seconds since its last use; 0 while it is in use.
        lease_count: Number of requests that use it now.
        pinned: Whether it is pinned.
        load_seconds: Seconds that its load took.

    """

    model: Model
    model_id: str
    model_sha256: str
    device: str
    resident_bytes: int
    idle_seconds: float
    lease_count: int
    pinned: bool
    load_seconds: float

    def _facts(self) -> dict[str, Any]:
        return {
            "model": self.model_id,
            "device": self.device,
            "bytes": self.resident_bytes,
            "pinned": True if self.pinned else None,
            "idle seconds": round(self.idle_seconds),
        }


@dataclass(frozen=True)
class Device:
    """A device of a server, and its memory for models.

    Attributes:
        name: Its name, such as `cuda:0` or `cpu`.
        budget_bytes: Memory that models may use.
        used_bytes: Memory that models use.
        reserved_bytes: Memory reserved for models that are being loaded.

    """

    name: str
    budget_bytes: int
    used_bytes: int
    reserved_bytes: int


@dataclass(frozen=True)
class Upload:
    """A file that was uploaded.

    Attributes:
        sha256: SHA-256 of the file.
        size_bytes: Its length.
        format: `safetensors`, `torch`, `hdf5`, `keras`, `pt2` or `onnx`.
        name: Its file name; empty if none was given.
        preprocessing: The preprocessing declared for it, or None.
        uploaded_unix_seconds: When it was uploaded, in seconds since 1970.
        is_model: Whether it is a complete model, `own/SHA256`.

    """

    sha256: str
    size_bytes: int
    format: str
    name: str
    preprocessing: Preprocessing | None
    uploaded_unix_seconds: float
    is_model: bool


@dataclass(frozen=True, repr=False)
class Residency(Shown):
    """What is in a server's memory.

    Attributes:
        models: The models, the most recently used first.
        devices: The devices.

    """

    models: tuple[ResidentModel, ...]
    devices: tuple[Device, ...]

    def _facts(self) -> dict[str, Any]:
        return {
            "models": [one.model_id for one in self.models],
            "devices": {
                one.name: f"{one.used_bytes:,} of {one.budget_bytes:,} bytes"
                for one in self.devices
            },
        }


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
    if isinstance(message, pb.ListModulesResponse):
        fields["output_axes"] = axis_names(message.output_axes, len(message.output_shape))
    return RECORDS[type(message)](**fields)


RECORDS: dict[type, Any] = {
    pb.PretrainedWeights: PretrainedWeights,
    pb.ListModelsResponse: ModelInfo,
    pb.ListModulesResponse: ModuleInfo,
    pb.Preprocessing: Preprocessing,
    pb.PreprocessingStep: PreprocessingStep,
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
