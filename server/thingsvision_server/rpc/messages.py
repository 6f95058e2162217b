"""Between protobuf messages and the engine's own types, both ways; knows no call."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import ColumnSpec

from ..backends.base import ModuleInfo
from ..backends.taps import TokenExtraction
from ..engine.extractor import Extraction
from ..engine.planning import ExtractSpec
from ..engine.residency import Resident
from ..errors import InvalidRequestError
from ..images import EncodedImage
from ..inputs import Preprocessing, PreprocessingOverrides, RequestItem, TensorImage, Text
from ..sources.base import (
    ModelEntry,
    ModelKey,
    Pretrained,
    PretrainedEntry,
    Random,
    Uploaded,
    Weights,
    WeightsState,
)

_STATES: Mapping[WeightsState, pb.WeightsState] = {
    WeightsState.PRESENT: pb.WEIGHTS_STATE_PRESENT,
    WeightsState.DOWNLOADABLE: pb.WEIGHTS_STATE_DOWNLOADABLE,
    WeightsState.MISSING: pb.WEIGHTS_STATE_MISSING,
}

_ELEMENT_TYPES: Mapping[pb.ElementType, str] = {
    pb.ELEMENT_TYPE_UNSPECIFIED: "float32",
    pb.ELEMENT_TYPE_FLOAT32: "float32",
    pb.ELEMENT_TYPE_FLOAT64: "float64",
}

_METRICS: Mapping[pb.Metric, str] = {
    pb.METRIC_CORRELATION: "correlation",
    pb.METRIC_COSINE: "cosine",
    pb.METRIC_EUCLIDEAN: "euclidean",
    pb.METRIC_GAUSSIAN: "gaussian",
}

_TOKENS: Mapping[pb.TokenExtraction, TokenExtraction] = {
    pb.TOKEN_EXTRACTION_UNSPECIFIED: TokenExtraction.NONE,
    pb.TOKEN_EXTRACTION_CLS_TOKEN: TokenExtraction.CLS_TOKEN,
    pb.TOKEN_EXTRACTION_AVG_POOL: TokenExtraction.AVG_POOL,
    pb.TOKEN_EXTRACTION_CLS_TOKEN_AVG_POOL: TokenExtraction.CLS_TOKEN_AVG_POOL,
}

_ITEMS: Mapping[str, type[RequestItem]] = {
    "encoded": EncodedImage,
    "tensor": TensorImage,
    "text": Text,
}


def model_key(spec: pb.ModelSpec) -> ModelKey:
    """Return the model that a message names; raise where it names none."""
    for field in ("source", "name"):
        if not getattr(spec, field):
            raise InvalidRequestError(f"the model has no {field}", field=f"model.{field}")
    weights: Weights = Pretrained(spec.pretrained_tag)
    if spec.WhichOneof("weights") == "weights_sha256":
        weights = Uploaded(spec.weights_sha256)
    elif spec.WhichOneof("weights") == "random_seed":
        weights = Random(spec.random_seed)
    return ModelKey(spec.source, spec.name, weights)


def model_spec(key: ModelKey) -> pb.ModelSpec:
    """Return the message that names a model."""
    spec = pb.ModelSpec(source=key.source, name=key.name)
    match key.weights:
        case Pretrained(tag):
            spec.pretrained_tag = tag
        case Uploaded(sha256):
            spec.weights_sha256 = sha256
        case Random(seed):
            spec.random_seed = seed
    return spec


def extract_spec(header: pb.ExtractHeader) -> ExtractSpec:
    """Return what a header asks for."""
    if header.token_extraction not in _TOKENS:
        valid = ", ".join(tokens.value for tokens in _TOKENS.values() if tokens.value)
        sentence = f"token extraction {header.token_extraction} is not known. Valid: {valid}"
        raise InvalidRequestError(sentence, field="token_extraction")
    return ExtractSpec(
        model_key(header.model),
        tuple(header.modules),
        header.batch_size,
        _TOKENS[header.token_extraction],
        _overrides(header.overrides) if header.HasField("overrides") else None,
        tuple(header.tensors.shape) if header.HasField("tensors") else None,
    )


def _overrides(message: pb.PreprocessingOverrides) -> PreprocessingOverrides:
    return PreprocessingOverrides(
        resize_pixels=tuple(message.resize_pixels),
        crop_pixels=tuple(message.crop_pixels),
        crop=not message.no_crop,
        interpolation=message.interpolation,
        mean=tuple(message.mean),
        std=tuple(message.std),
    )


def request_item(image: pb.Image, expected_index: int) -> RequestItem:
    """Return an image of a stream; raise where its number is not the expected one."""
    if image.index != expected_index:
        raise InvalidRequestError(
            f"image {image.name!r} has the index {image.index} where {expected_index} must follow",
            field=f"image[{expected_index}]",
            subject=image.name,
        )
    kind = image.WhichOneof("content")
    if kind is None:
        sentence = f"image {image.index} ({image.name!r}) has no content; set `encoded`"
        raise InvalidRequestError(sentence, field=f"image[{image.index}]", subject=image.name)
    return _ITEMS[kind](expected_index, image.name, getattr(image, kind))


def element_type(value: pb.ElementType) -> str:
    """Return the numpy name of an element type; raise for one that is not known here."""
    if value not in _ELEMENT_TYPES:
        raise InvalidRequestError(
            f"element type {value} is not known; use FLOAT32 or FLOAT64", field="element_type"
        )
    return _ELEMENT_TYPES[value]


def metric_name(value: pb.Metric) -> str:
    """Return the engine's name of a metric; raise for none and for an unknown one."""
    if value not in _METRICS:
        valid = ", ".join(_METRICS.values())
        raise InvalidRequestError(f"metric {value} is not known. Valid: {valid}", field="metric")
    return _METRICS[value]


def column_message(column: ColumnSpec) -> pb.Column:
    """Return the message of a column of features."""
    double = column.dtype == "float64"
    kind = pb.ELEMENT_TYPE_FLOAT64 if double else pb.ELEMENT_TYPE_FLOAT32
    return pb.Column(name=column.name, shape=column.shape, element_type=kind)


def provenance(extraction: Extraction) -> pb.Provenance:
    """Return what computes the features of an extraction."""
    loaded = extraction.loaded
    return pb.Provenance(
        model=model_spec(loaded.key),
        model_sha256=loaded.model.model_sha256,
        preprocessing=preprocessing_message(extraction.plan.transform.preprocessing),
        device=loaded.lane.device,
        framework=loaded.model.framework,
        server_version=version("thingsvision-service"),
        precision="float32",
    )


def preprocessing_message(preprocessing: Preprocessing) -> pb.Preprocessing:
    """Return the message of a model's preprocessing; the fields have the same names."""
    return pb.Preprocessing(**vars(preprocessing))


def timings(extraction: Extraction | None, send_seconds: float) -> pb.Timings:
    """Return where a request's time went; without an extraction, only the sending is known."""
    if extraction is None:
        return pb.Timings(send_seconds=send_seconds)
    return pb.Timings(
        decode_seconds=extraction.preparation.decode_seconds,
        wait_seconds=extraction.wait_seconds,
        forward_seconds=extraction.forward_seconds,
        send_seconds=send_seconds,
    )


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
    )


def model_message(entry: ModelEntry) -> pb.ListModelsResponse:
    """Return the message of one model of a source."""
    return pb.ListModelsResponse(
        source=entry.source,
        name=entry.name,
        pretrained=map(_pretrained_message, entry.pretrained),
        backend=entry.backend,
        task=entry.task,
        parameter_count=entry.parameter_count,
        input_shape=entry.input_shape,
    )


def _pretrained_message(entry: PretrainedEntry) -> pb.PretrainedWeights:
    known = entry.preprocessing
    return pb.PretrainedWeights(
        tag=entry.tag,
        is_default=entry.is_default,
        state=_STATES[entry.state],
        preprocessing=None if known is None else preprocessing_message(known),
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
