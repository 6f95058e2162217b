"""Converts between messages about models and the types of the engine and the sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ...backends.modules import ModuleInfo
from ...engine.models.loading import LoadedModel
from ...engine.models.memory_queue import Place
from ...engine.models.resident import Resident
from ...engine.waiting import Waiting
from ...errors import InvalidRequestError
from ...inputs import Preprocessing, PreprocessingStep
from ...sources.base import (
    ModelEntry,
    ModelKey,
    Pretrained,
    PretrainedEntry,
    Random,
    Uploaded,
    Weights,
    WeightsState,
)
from .axes import axis_words

T = TypeVar("T")

_NAME_CHARACTERS = 4096
"""Maximum length of the names in a ModelSpec: longer than paths of folders."""

_MOST_STEPS = 32
"""Maximum number of steps of a preprocessing."""

_STATES: Mapping[WeightsState, pb.WeightsState] = {
    WeightsState.PRESENT: pb.WEIGHTS_STATE_PRESENT,
    WeightsState.DOWNLOADABLE: pb.WEIGHTS_STATE_DOWNLOADABLE,
    WeightsState.MISSING: pb.WEIGHTS_STATE_MISSING,
}


def decode_enum(field: str, value: int, table: Mapping[Any, T]) -> T:
    """Return the table's value for an enum's number; raise if the table has none."""
    if value not in table:
        valid = ", ".join(dict.fromkeys(str(getattr(v, "value", v)) for v in table.values() if v))
        raise InvalidRequestError(f"`{field}` must be one of: {valid}; got {value}", field=field)
    return table[value]


def model_key(spec: pb.ModelSpec) -> ModelKey:
    """Return the model that a message names; raise if it has no source or name."""
    for field in ("source", "name"):
        if not getattr(spec, field):
            raise InvalidRequestError(f"the model must have a `{field}`", field=f"model.{field}")
    for field in ("source", "name", "pretrained_tag", "weights_sha256", "weights_part"):
        value = getattr(spec, field)
        if len(value) > _NAME_CHARACTERS:
            raise InvalidRequestError(
                f"`{field}` must have at most {_NAME_CHARACTERS:,} characters, got {len(value):,}: "
                f"{value[:100]!r}",
                field=f"model.{field}",
                subject=value[:100],
            )
    weights: Weights = Pretrained(spec.pretrained_tag)
    if spec.WhichOneof("weights") == "weights_sha256":
        weights = Uploaded(spec.weights_sha256, spec.weights_part)
    elif spec.weights_part:
        raise InvalidRequestError(
            f"`weights_part` must be left out without `weights_sha256`, got {spec.weights_part!r}: "
            "only uploaded files have parts",
            field="model.weights_part",
        )
    elif spec.WhichOneof("weights") == "random_seed":
        weights = Random(spec.random_seed)
    return ModelKey(spec.source, spec.name, weights)


def loaded_spec(loaded: LoadedModel) -> pb.ModelSpec:
    """Return the message that names a model in memory, with the part of the file that was taken."""
    spec = model_spec(loaded.key)
    spec.weights_part = loaded.model.weights_part
    return spec


def model_spec(key: ModelKey) -> pb.ModelSpec:
    """Return the message that names a model."""
    spec = pb.ModelSpec(source=key.source, name=key.name)
    match key.weights:
        case Pretrained(tag):
            spec.pretrained_tag = tag
        case Uploaded(sha256, part):
            spec.weights_sha256 = sha256
            spec.weights_part = part
        case Random(seed):
            spec.random_seed = seed
    return spec


def preprocessing_message(preprocessing: Preprocessing) -> pb.Preprocessing:
    """Return the message of a model's preprocessing, whose fields have the same names."""
    steps = [pb.PreprocessingStep(**vars(step)) for step in preprocessing.steps]
    return pb.Preprocessing(**vars(preprocessing) | {"steps": steps})


def read_preprocessing(message: pb.Preprocessing) -> Preprocessing:
    """Return the preprocessing of a message, whose fields have the same names."""
    if len(message.steps) > _MOST_STEPS:
        sentence = f"`steps` must be at most {_MOST_STEPS}, got {len(message.steps):,}"
        raise InvalidRequestError(sentence, field="preprocessing.steps")
    values = _fields(message)
    steps = tuple(PreprocessingStep(**_fields(step)) for step in message.steps)
    return Preprocessing(**values | {"steps": steps})


def _fields(message: Any) -> dict[str, Any]:
    """Return a message's fields by name; repeated fields become tuples."""
    values = ((field.name, getattr(message, field.name)) for field in message.DESCRIPTOR.fields)
    return {name: tuple(one) if hasattr(one, "extend") else one for name, one in values}


def module_message(module: ModuleInfo) -> pb.ListModulesResponse:
    """Return the message of one module."""
    return pb.ListModulesResponse(
        name=module.name,
        type=module.type,
        attributes=module.attributes,
        depth=module.depth,
        parent=module.parent,
        parameter_count=module.parameter_count,
        output_shape=module.last.shape,
        output_dtype=module.last.dtype,
        call_count=len(module.calls),
        extractable=not module.reason,
        reason=module.reason,
        modality=module.modality,
        prefix_token_count=module.prefix_tokens,
        position=module.position,
        classes=module.classes,
        output_axes=axis_words(module.last.axes),
    )


def model_message(entry: ModelEntry) -> pb.ListModelsResponse:
    """Return the message of one model of a source."""
    return pb.ListModelsResponse(
        source=entry.source,
        name=entry.name,
        pretrained=map(_weights_message, entry.pretrained),
        backend=entry.backend,
        task=entry.task,
        parameter_count=entry.parameter_count,
        input_shape=entry.input_shape,
    )


def _weights_message(entry: PretrainedEntry) -> pb.PretrainedWeights:
    preprocessing = entry.preprocessing
    return pb.PretrainedWeights(
        tag=entry.tag,
        is_default=entry.is_default,
        state=_STATES[entry.state],
        preprocessing=None if preprocessing is None else preprocessing_message(preprocessing),
    )


def resident_message(resident: Resident, device: str) -> pb.ResidentModel:
    """Return the message of a model that is in memory."""
    loaded = resident.ready.result()
    return pb.ResidentModel(
        model=model_spec(resident.key),
        model_id=str(resident.key),
        model_sha256=loaded.model.model_sha256,
        device=device,
        resident_bytes=loaded.model.resident_bytes,
        idle_seconds=resident.idle_seconds,
        lease_count=resident.lease_count,
        pinned=resident.pinned,
        load_seconds=resident.load_seconds,
    )


def waiting_message(waiting: Waiting) -> pb.Waiting:
    """Return the message that tells a request what it waits for."""
    return pb.Waiting(
        stage=load_stage(waiting),
        place=waiting.place,
        queue_length=waiting.count,
        reason=waiting.reason,
    )


def load_stage(waiting: Waiting) -> pb.LoadStage:
    """Return the stage of a model's load."""
    return pb.LOAD_STAGE_WAITING if waiting.place else pb.LOAD_STAGE_LOADING


def waiting_model_message(resident: Resident, place: Place, reason: str) -> pb.WaitingModel:
    """Return the message of a model that waits for memory."""
    return pb.WaitingModel(
        model=model_spec(resident.key),
        model_id=str(resident.key),
        needed_bytes=place.needed_bytes,
        waiting_seconds=place.waited_seconds,
        request_count=resident.lease_count,
        reason=reason,
    )
