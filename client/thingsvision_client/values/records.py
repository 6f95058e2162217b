"""What a server tells about itself and its work, as frozen values; no protobuf leaves here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..display.cards import Shown, shape_text
from .axes import axis_names
from .cores import Cores
from .model import Model
from .ownership import Ownership, Sharing
from .pca import PCA, PCAModule
from .preprocessing import Preprocessing
from .preprocessing_step import PreprocessingStep
from .provenance import Provenance, SplitBatch, UsedPCA


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
        server: The address of the server that holds it; empty if it announces none.

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
    server: str = ""

    def _facts(self) -> dict[str, Any]:
        return {
            "model": self.model_id,
            "server": self.server or None,
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
        hardware: Its hardware, as in `Provenance`; the name of a MIG instance says so.
        cuda_visible_devices: CUDA_VISIBLE_DEVICES of the server, which numbers its GPUs; empty if
            it is not set, or on a CPU.
        lane_count: Forward passes that may run side by side.
        busy_lane_count: Forward passes that run.
        busy_seconds: Seconds since the server's start in which at least one ran.
        waiting_image_count: Images that are decoded and wait for a pass.
        image_count: Images computed since the server's start.
        server: The address of its server; empty if it announces none.
        template_bytes: The host's memory of the templates that the processes of uploaded programs
            and of TensorFlow are forked from; on a CPU it counts in the budget.

    """

    name: str
    budget_bytes: int
    used_bytes: int
    reserved_bytes: int
    hardware: str = ""
    cuda_visible_devices: str = ""
    lane_count: int = 0
    busy_lane_count: int = 0
    busy_seconds: float = 0.0
    waiting_image_count: int = 0
    image_count: int = 0
    server: str = ""
    template_bytes: int = 0


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
        ownership: Whose it is; None if the server is older.

    """

    sha256: str
    size_bytes: int
    format: str
    name: str
    preprocessing: Preprocessing | None
    uploaded_unix_seconds: float
    is_model: bool
    ownership: Ownership | None = None


@dataclass(frozen=True)
class WaitingModel:
    """A model that waits for memory which other models hold.

    Attributes:
        model: The model, with its weights named in full.
        model_id: Its id, `source/name@weights`.
        needed_bytes: Memory that it needs on the device.
        waiting_seconds: Seconds since it came to the queue.
        request_count: Number of requests that wait for it.
        reason: Why it waits: what can be had, and who uses the rest.
        server: The address of the server where it waits; empty if it announces none.

    """

    model: Model
    model_id: str
    needed_bytes: int
    waiting_seconds: float
    request_count: int
    reason: str
    server: str = ""


@dataclass(frozen=True)
class ServerInfo:
    """A server of a cluster, with what can change the last bits of features.

    Attributes:
        address: Where gateways and clients reach it; empty if it announces no address.
        state: `serving`; `draining`, when it shuts down; or `silent`, when it has not announced
            itself for 30 s: it is dead, stopped, or cut off.
        silent_seconds: Seconds since it last announced itself, as the server that answered saw it.
        version: Its version.
        host_name: The name of its machine.
        hardware: The hardware of its device, as in `Provenance`.
        cores: Cores of a pass on a CPU (`count`), and of all its lanes together (`tail_count`);
            None with a GPU.
        libraries: Libraries and their versions, such as `torch 2.11.0`.

    """

    address: str
    state: str
    silent_seconds: float
    version: str
    host_name: str
    hardware: str
    cores: Cores | None
    libraries: tuple[str, ...]


@dataclass(frozen=True)
class PersonUse:
    """What a person uses of a server, or what several people together use of it.

    Attributes:
        name: The person's name; on a server without tokens the client's address or certificate.
            Empty for all people without a row of their own.
        person_count: Number of people that it is about.
        call_count: Calls in progress, without the call that asked.
        waiting_image_count: Images that are decoded and wait for a pass.
        waiting_seconds: How long the image has waited that waits longest; 0 if none waits.
        device_seconds: Seconds of the whole device, of the passes that ended in the last minute.
        image_count: Images computed in the last minute.
        server: The address of the server; empty if it announces none.

    """

    name: str
    person_count: int
    call_count: int
    waiting_image_count: int
    waiting_seconds: float
    device_seconds: float
    image_count: int
    server: str = ""


@dataclass(frozen=True, repr=False)
class Residency(Shown):
    """What is in the memory of the servers of a cluster, or of a single server.

    Attributes:
        models: The models, first of the server that answered; of each server the most recently used
            first.
        devices: The devices, first of the server that answered.
        waiting: Models that wait for memory, by server, in the order of its queue.
        servers: The servers, first the server that answered. What the others hold is as they last
            announced it, some seconds ago; of silent servers nothing is known.
        people: Who uses the servers: you, then the 20 busiest people, then all others together.
            Without the scope `admin`, and of servers that did not answer, others are only added up.

    """

    models: tuple[ResidentModel, ...]
    devices: tuple[Device, ...]
    waiting: tuple[WaitingModel, ...] = ()
    servers: tuple[ServerInfo, ...] = ()
    people: tuple[PersonUse, ...] = ()

    def _facts(self) -> dict[str, Any]:
        return {
            "models": [one.model_id for one in self.models],
            "devices": {
                f"{one.server} {one.name}".strip(): f"{one.used_bytes:,} of {one.budget_bytes:,} "
                "bytes"
                for one in self.devices
            },
            "waiting": [one.model_id for one in self.waiting] or None,
            "servers": {one.address: one.state for one in self.servers if one.address} or None,
        }


_STATES: dict[type, dict[int, str]] = {
    pb.PretrainedWeights: {
        number: name.removeprefix("WEIGHTS_STATE_").lower()
        for name, number in pb.WeightsState.items()
    },
    pb.Server: {
        number: name.removeprefix("SERVER_STATE_").lower()
        for name, number in pb.ServerState.items()
    },
}
"""The words for the field `state` of messages."""


def _convert(message: Any, name: str, value: Any) -> Any:
    if name == "state":
        return _STATES[type(message)].get(value, "unspecified")
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
            tuple(_convert(message, field.name, entry) for entry in value)
            if is_repeated
            else _convert(message, field.name, value)
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
    pb.Cores: Cores,
    pb.SplitBatch: SplitBatch,
    pb.Provenance: Provenance,
    pb.Timings: Timings,
    pb.ResidentModel: ResidentModel,
    pb.Device: Device,
    pb.WaitingModel: WaitingModel,
    pb.Ownership: Ownership,
    pb.ShareResponse: Sharing,
    pb.Upload: Upload,
    pb.PCAModule: PCAModule,
    pb.PCA: PCA,
    pb.Server: ServerInfo,
    pb.PersonUse: PersonUse,
    pb.GetResidencyResponse: Residency,
}
"""Which record a message becomes; field by field, so a test finds one that was forgotten."""
