"""Converts between messages about an extraction and the types of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import ColumnSpec

from ...access.person import Person
from ...backends.compute_options import ComputeOptions
from ...backends.modules import Axes
from ...backends.taps import TokenExtraction
from ...engine.extractor import Extraction
from ...engine.images.server_images import SentItem
from ...engine.passes.stream import Hole
from ...engine.planning import ExtractSpec
from ...engine.splits import SplitBatch
from ...errors import InvalidRequestError
from ...images import EncodedImage, KeptImage, NoImage, ServerImage
from ...inputs import PreprocessingOverrides, TensorImage, Text
from ...version import server_version
from .axes import axis_words
from .compute_options import compute_options
from .cores import cores_message, read_cores
from .models import (
    decode_enum,
    loaded_spec,
    model_key,
    preprocessing_message,
    read_preprocessing,
)
from .reductions import pca_summary_message, read_reduction, reduction_message

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

_NAME_CHARACTERS = 16_384
"""Maximum length of an image's name: longer than paths, and than the texts that are their names."""

_ITEMS: Mapping[str, Callable[..., SentItem]] = {
    "encoded": EncodedImage,
    "kept_sha256": KeptImage,
    "server_path": ServerImage,
    "tensor": TensorImage,
    "text": Text,
}


def extract_spec(header: pb.ExtractHeader) -> ExtractSpec:
    """Return the extraction that a header asks for."""
    options = compute_options(header)
    _check_batch_size(header, options)
    return ExtractSpec(
        key=model_key(header.model),
        modules=tuple(header.modules),
        batch_size=header.batch_size,
        image_count=header.image_count,
        cores=read_cores(header.cores) if header.HasField("cores") else None,
        tokens=decode_enum("token_extraction", header.token_extraction, _TOKENS),
        tensor_shape=tuple(header.tensors.shape) if header.HasField("tensors") else None,
        **_changes(header),
        options=options,
        dtype=element_type(header.element_type, FEATURE_DTYPES),
        deterministic=header.deterministic,
        reduction=read_reduction(header.reduction),
        pca=header.reduction.pca,
        skips_bad_images=header.skip_bad_images,
    )


def preprocess_spec(header: pb.PreprocessHeader) -> ExtractSpec:
    """Return the extraction, without modules, whose inputs a header asks for."""
    return ExtractSpec(key=model_key(header.model), modules=(), **_changes(header))


def _changes(header: pb.ExtractHeader | pb.PreprocessHeader) -> dict[str, Any]:
    """Return what takes the place of the model's own preprocessing, as fields of ExtractSpec."""
    chosen = header.WhichOneof("input")
    if chosen == "overrides":
        return {"overrides": _read_overrides(header.overrides)}
    if chosen == "preprocessing":
        return {"preprocessing": read_preprocessing(header.preprocessing)}
    return {}


def _check_batch_size(header: pb.ExtractHeader, options: ComputeOptions) -> None:
    if header.deterministic and header.batch_size > 1:
        raise InvalidRequestError(
            f"`batch_size` must be 1 if `deterministic` is set (one pass per image), got "
            f"{header.batch_size}; leave one of them out",
            field="batch_size",
        )
    if options.compiled and not (header.batch_size or header.deterministic):
        raise InvalidRequestError(
            "`batch_size` must be set for compiled passes, which have a fixed number of images",
            field="batch_size",
        )


def _read_overrides(message: pb.PreprocessingOverrides) -> PreprocessingOverrides:
    return PreprocessingOverrides(
        resize_pixels=tuple(message.resize_pixels),
        crop_pixels=tuple(message.crop_pixels),
        crop=not message.no_crop,
        interpolation=message.interpolation,
        mean=tuple(message.mean),
        std=tuple(message.std),
    )


def request_item(image: pb.Image, expected_index: int, sender: Person) -> SentItem:
    """Return an image of a sender's stream; raise if its index is not the expected index."""
    if len(image.name) > _NAME_CHARACTERS:
        raise InvalidRequestError(
            f"the name of image {expected_index} must have at most {_NAME_CHARACTERS:,} "
            f"characters, got {len(image.name):,}: {image.name[:100]!r}",
            field=f"image[{expected_index}].name",
        )
    if image.index != expected_index:
        raise InvalidRequestError(
            f"image {image.name!r} must have index {expected_index}, got {image.index}",
            field=f"image[{expected_index}]",
            subject=image.name,
        )
    kind = image.WhichOneof("content")
    if kind is None:
        sentence = f"image {image.index} ({image.name!r}) must have content; set `encoded`"
        raise InvalidRequestError(sentence, field=f"image[{image.index}]", subject=image.name)
    if kind == "hole":
        return NoImage(expected_index, image.name)
    item = _ITEMS[kind](expected_index, image.name, getattr(image, kind))
    if image.keep and isinstance(item, EncodedImage):
        return replace(item, keep_for=sender)
    return replace(item, reader=sender) if isinstance(item, (KeptImage, ServerImage)) else item


def skipped_message(holes: Sequence[Hole]) -> pb.SkippedImages:
    """Return the message of images that could not be used."""
    images = [pb.SkippedImage(index=hole.index, reason=hole.reason) for hole in holes]
    return pb.SkippedImages(images=images)


FEATURE_DTYPES = ("float32", "float16")
"""Element types of features that are sent."""

COMPARED_DTYPES = ("float32",)
"""Element types of features that stay on the server, so shorter types would save nothing."""

RDM_DTYPES = ("float32", "float64")
"""Element types of RDMs that are sent."""


def element_type(value: pb.ElementType, valid: Sequence[str]) -> str:
    """Return the numpy name of an element type; raise if it is not in `valid`."""
    name = _ELEMENT_TYPES.get(value, str(value))
    if name not in valid:
        raise InvalidRequestError(
            f"`element_type` must be {' or '.join(map(str.upper, valid))} here, got {name}",
            field="element_type",
        )
    return name


def column_message(column: ColumnSpec, axes: Axes = ()) -> pb.Column:
    """Return the message of a column of features; `axes` are empty in RDMs."""
    kind = max(number for number, name in _ELEMENT_TYPES.items() if name == column.dtype)
    return pb.Column(name=column.name, shape=column.shape, element_type=kind, axes=axis_words(axes))


def split_message(split: SplitBatch) -> pb.SplitBatch:
    """Return the message of images whose batch was split; the fields have the same names."""
    return pb.SplitBatch(**vars(split))


def provenance(extraction: Extraction) -> pb.Provenance:
    """Return the provenance of an extraction's features."""
    loaded, forward = extraction.loaded, extraction.plan.forward
    return pb.Provenance(
        model=loaded_spec(loaded),
        model_sha256=loaded.model.model_sha256,
        preprocessing=preprocessing_message(extraction.plan.transform.preprocessing),
        device=loaded.lanes.device,
        hardware=loaded.lanes.hardware,
        framework=loaded.model.framework,
        server_version=server_version(),
        **forward.options.to_dict(),
        deterministic=extraction.deterministic,
        cores=cores_message(extraction.cores),
        split_batches=map(split_message, extraction.split_batches),
        reduction=reduction_message(forward.reduction, forward.pca),
        pca=None if forward.pca is None else pca_summary_message(forward.pca.record),
    )


def token_number(extraction: Extraction) -> pb.TokenExtraction:
    """Return the contract's number for the tokens that an extraction takes."""
    taken = extraction.facts.token_extraction
    return next(number for number, tokens in _TOKENS.items() if tokens.value == taken)


def timings(extraction: Extraction | None, send_seconds: float) -> pb.Timings:
    """Return the times that a request took; without an extraction, only the sending time."""
    if extraction is None:
        return pb.Timings(send_seconds=send_seconds)
    return pb.Timings(
        decode_seconds=extraction.preparation.decode_seconds,
        wait_seconds=extraction.wait_seconds,
        forward_seconds=extraction.forward_seconds,
        send_seconds=send_seconds,
    )
