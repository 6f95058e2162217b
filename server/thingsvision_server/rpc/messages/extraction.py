"""An extraction as messages tell it, its header, its provenance, its images; knows no call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import ColumnSpec

from ...backends.compute_options import ComputeOptions
from ...backends.taps import TokenExtraction
from ...engine.extractor import Extraction
from ...engine.images.server_images import SentItem
from ...engine.planning import ExtractSpec
from ...errors import InvalidRequestError
from ...images import EncodedImage, KeptImage, ServerImage
from ...inputs import PreprocessingOverrides, TensorImage, Text
from .compute_options import compute_options
from .models import known, model_key, model_spec, preprocessing_message
from .reductions import reduction_message, reduction_of, used_pca_message

_ELEMENT_TYPES: Mapping[pb.ElementType, str] = {
    pb.ELEMENT_TYPE_UNSPECIFIED: "float32",
    pb.ELEMENT_TYPE_FLOAT32: "float32",
    pb.ELEMENT_TYPE_FLOAT64: "float64",
    pb.ELEMENT_TYPE_FLOAT16: "float16",
}

_TOKENS: Mapping[pb.TokenExtraction, TokenExtraction] = {
    pb.TOKEN_EXTRACTION_UNSPECIFIED: TokenExtraction.NONE,
    pb.TOKEN_EXTRACTION_CLS_TOKEN: TokenExtraction.CLS_TOKEN,
    pb.TOKEN_EXTRACTION_AVG_POOL: TokenExtraction.AVG_POOL,
    pb.TOKEN_EXTRACTION_CLS_TOKEN_AVG_POOL: TokenExtraction.CLS_TOKEN_AVG_POOL,
}

_ITEMS: Mapping[str, type[SentItem]] = {
    "encoded": EncodedImage,
    "kept_sha256": KeptImage,
    "server_path": ServerImage,
    "tensor": TensorImage,
    "text": Text,
}


def extract_spec(header: pb.ExtractHeader) -> ExtractSpec:
    """Return what a header asks for."""
    options = compute_options(header)
    _check_batch_size(header, options)
    return ExtractSpec(
        key=model_key(header.model),
        modules=tuple(header.modules),
        batch_size=header.batch_size,
        tokens=known("token_extraction", header.token_extraction, _TOKENS),
        overrides=_overrides(header.overrides) if header.HasField("overrides") else None,
        tensor_shape=tuple(header.tensors.shape) if header.HasField("tensors") else None,
        options=options,
        dtype=element_type(header.element_type, FEATURE_DTYPES),
        deterministic=header.deterministic,
        reduction=reduction_of(header.reduction),
        pca=header.reduction.pca,
    )


def _check_batch_size(header: pb.ExtractHeader, options: ComputeOptions) -> None:
    if header.deterministic and header.batch_size > 1:
        raise InvalidRequestError(
            f"deterministic runs every image alone, so batch_size is 1, not {header.batch_size}; "
            "leave one of them out",
            field="batch_size",
        )
    if options.compiled and not (header.batch_size or header.deterministic):
        raise InvalidRequestError(
            "compiled passes have one number of images: name a batch_size",
            field="batch_size",
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


def request_item(image: pb.Image, expected_index: int, sender: str) -> SentItem:
    """Return an image of a sender's stream; raise where its number is not the expected one."""
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
    item = _ITEMS[kind](expected_index, image.name, getattr(image, kind))
    if image.keep and isinstance(item, EncodedImage):
        return replace(item, keep_for=sender)
    return item


FEATURE_DTYPES = ("float32", "float16")
"""Element types that features are sent as."""

COMPARED_DTYPES = ("float32",)
"""Element types of features that stay here: nobody sends them, so none has to be short."""

RDM_DTYPES = ("float32", "float64")
"""Element types that RDMs are sent as."""


def element_type(value: pb.ElementType, valid: Sequence[str]) -> str:
    """Return the numpy name of an element type; raise for one that is not valid here."""
    name = _ELEMENT_TYPES.get(value, str(value))
    if name not in valid:
        raise InvalidRequestError(
            f"element type {name} can't be had here; use {' or '.join(map(str.upper, valid))}",
            field="element_type",
        )
    return name


def column_message(column: ColumnSpec) -> pb.Column:
    """Return the message of a column of features."""
    kind = max(number for number, name in _ELEMENT_TYPES.items() if name == column.dtype)
    return pb.Column(name=column.name, shape=column.shape, element_type=kind)


def provenance(extraction: Extraction) -> pb.Provenance:
    """Return what computes the features of an extraction."""
    loaded, work = extraction.loaded, extraction.plan.work
    return pb.Provenance(
        model=model_spec(loaded.key),
        model_sha256=loaded.model.model_sha256,
        preprocessing=preprocessing_message(extraction.plan.transform.preprocessing),
        device=loaded.lanes.device,
        framework=loaded.model.framework,
        server_version=server_version(),
        **work.options.to_dict(),
        deterministic=extraction.deterministic,
        reduction=reduction_message(work.reduction, work.pca),
        pca=None if work.pca is None else used_pca_message(work.pca.record),
    )


@cache
def server_version() -> str:
    """Return the version of this server."""
    return version("thingsvision-service")


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
