"""The source `own`: complete models that users uploaded, named by the SHA-256 of their file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ...backends.base import RunnableModel
from ...backends.children.guests import GuestRuntime
from ...backends.chunks import ChunkedModel
from ...backends.modules import Structure
from ...backends.tensorflow.model import TensorFlowRuntime
from ...errors import (
    InvalidRequestError,
    UnknownModelError,
    UnknownWeightsError,
    choices,
    format_shape,
)
from ...inputs import IMAGE, InputSpec, InputTransform, Preprocessing
from ..base import ModelEntry, ModelKey, Pretrained, PretrainedEntry, Uploaded, WeightsState
from ..context import SourceContext
from ..imports import import_named
from ..preprocessing.declaration import transform_of_declaration
from ..uploads.records import UploadRecord, find_record, list_records, read_record

SOURCE = "own"


@dataclass(frozen=True)
class OwnFormat:
    """How complete models of one format are run."""

    backend: str
    opener: str
    """`module:function` (below this package) that returns its WholeModel, called with the file, its
    record, TensorFlow's process, and the guests that run users' programs."""


OWN_FORMATS: Mapping[str, OwnFormat] = {
    "pt2": OwnFormat("pt", "guest_model:open_program"),
    "onnx": OwnFormat("onnx", "guest_model:open_program"),
    "keras": OwnFormat("tf", "keras_models:open_keras"),
    "keras-hdf5": OwnFormat("tf", "keras_models:open_keras"),
}
"""By the format of the file."""

_OPEN_SIZE = 224
"""Height and width of inputs if neither the model nor a declaration gives them, pixels."""

_ONE_BY_ONE, _ANY = (1, 1), (2, 3)
_CACHED_MODELS = 64


class WholeModel(Protocol):
    """A model in a file: the inputs that it accepts, and how it is run."""

    image_counts: tuple[int, int | None]
    """The smallest and the largest batch that it accepts, images; None: any size."""
    input_shape: tuple[int | None, ...]
    """Shape of one input image; None: any size."""

    def structure(self, shape: tuple[int, ...], counts: tuple[int, int]) -> Structure:
        """Return its modules for images of a shape, from passes over `counts` images."""

    def load(self, device: str) -> RunnableModel:
        """Load it onto a device."""


def open_source(context: SourceContext) -> OwnSource:
    """Open the source over the folder of uploads."""
    source = OwnSource(context.weights.uploads, context.tensorflow, context.guests)
    if source.names():
        context.guests.warm_up()
    return source


class OwnSource:
    """A ModelSource over uploaded files, listed afresh each time because uploads come and go."""

    def __init__(self, folder: Path, tensorflow: TensorFlowRuntime, guests: GuestRuntime) -> None:
        self._folder = folder
        self._tensorflow = tensorflow
        self._guests = guests
        self._opened = lru_cache(_CACHED_MODELS)(self._open)

    def names(self) -> list[str]:
        """Return the digests of all complete models, sorted."""
        return sorted(one.sha256 for one in list_records(self._folder) if one.format in OWN_FORMATS)

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield the entries of these models without opening them."""
        for name in names:
            record = find_record(self._folder, name)
            if record is None:  # deleted since it was listed
                continue
            weights = PretrainedEntry(
                str(Uploaded(name)), True, WeightsState.PRESENT, record.preprocessing
            )
            yield ModelEntry(SOURCE, name, (weights,), backend=OWN_FORMATS[record.format].backend)

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its file's digest as its weights."""
        record = self._record(key.name)
        if record.format not in OWN_FORMATS:
            raise UnknownModelError(
                f"{record.called} ({record.format or 'unknown'}) contains weights, "
                f"not a complete model ({', '.join(OWN_FORMATS)}); name the model they belong to, "
                f"with the weights sha256:{key.name}",
                field="model.name",
                subject=key.name,
            )
        if key.weights not in (Pretrained(), Uploaded(key.name)):
            sentence = f"weights of {key.source}/{key.name} must be its own, got {key.weights}"
            raise UnknownWeightsError(sentence, field="model.weights", subject=str(key.weights))
        return ModelKey(key.source, key.name, Uploaded(key.name))

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a model."""
        record = self._record(key.name)
        model = self._opened(record.sha256, record.called)
        shape = image_shape or transform_of(model, record).spec.shape
        return describe_model(model, record.called, shape)

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the declared transform, or one that raises if no preprocessing was declared."""
        record = self._record(key.name)
        return {IMAGE: transform_of(self._opened(record.sha256, record.called), record)}

    def image_shape(self, key: ModelKey) -> tuple[int, ...]:
        """Return the shape of one image by the declaration of whoever makes the call."""
        return self.transforms(key)[IMAGE].spec.shape

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Load a model onto a device."""
        record = self._record(key.name)
        model = self._opened(record.sha256, record.called)
        least, most = model.image_counts
        loaded = model.load(device)
        return loaded if (least, most) == (1, None) else ChunkedModel(loaded, least, most)

    def _record(self, sha256: str) -> UploadRecord:
        try:
            return read_record(self._folder, sha256, field="model.name")
        except UnknownWeightsError as error:
            hint = choices(sha256, self.names()) or "No model has been uploaded."
            sentence = (
                f"{SOURCE} has no model {sha256!r}: name it by the SHA-256 of its file. {hint}"
            )
            raise UnknownModelError(sentence, field="model.name", subject=sha256) from error

    def _open(self, sha256: str, _called: str) -> WholeModel:
        # Errors call the file by the name that its user gave it, and each owner has another.
        record = self._record(sha256)
        return open_model(self._folder / sha256, record, self._tensorflow, self._guests)


def open_model(
    path: Path, record: UploadRecord, tensorflow: TensorFlowRuntime, guests: GuestRuntime
) -> WholeModel:
    """Return the model in a file; raise InvalidRequestError if it can't be used."""
    opener = import_named(OWN_FORMATS[record.format].opener, __package__)
    model: WholeModel = opener(path, record, tensorflow, guests)
    least, most = model.image_counts
    if not _is_one_by_one(model) and (least > _ANY[0] or (most or _ANY[1]) < _ANY[1]):
        accepted = f"{least}" if least == most else f"{least} to {most}"
        raise InvalidRequestError(
            f"{record.called} accepts only batches of {accepted} images; export it for any "
            "batch size: torch.export.export(model, (images,), dynamic_shapes=({0: "
            'torch.export.Dim("batch")},)), or torch.onnx.export(..., dynamic_shapes=...)',
            field="model.name",
            subject=record.sha256,
        )
    return model


def transform_of(model: WholeModel, record: UploadRecord) -> InputTransform:
    """Return the declared transform, or one that raises if no preprocessing was declared."""
    last = model.input_shape[-1:] == (3,) and model.input_shape[0] != 3
    if record.preprocessing is not None:
        return transform_of_declaration(record.preprocessing, channels_last=last)
    return _transform_without_declaration(record, model, channels_last=last)


def describe_model(model: WholeModel, called: str, shape: tuple[int, ...]) -> Structure:
    """Return the modules of a model for images of a shape; raise if it does not take them."""
    _check_shape(called, model, shape)
    return model.structure(shape, _ONE_BY_ONE if _is_one_by_one(model) else _ANY)


def _is_one_by_one(model: WholeModel) -> bool:
    return model.image_counts == _ONE_BY_ONE


def _check_shape(called: str, model: WholeModel, shape: tuple[int, ...]) -> None:
    own = model.input_shape
    if len(shape) != len(own) or any(
        size not in (None, given) for size, given in zip(own, shape, strict=True)
    ):
        raise InvalidRequestError(
            f"inputs of {called} must be {format_shape(own)}, got "
            f"{format_shape(shape)}, as it was exported: override crop_pixels, or export it for "
            "this size, or for any if it can (input_shape=(3, None, None) of "
            "get_extractor_from_model)",
            field="input",
        )


def _transform_without_declaration(
    record: UploadRecord, model: WholeModel, *, channels_last: bool
) -> InputTransform:
    def refuse(_image: Any) -> Any:
        if record.is_ambiguous:
            raise InvalidRequestError(
                f"{record.called} is shared with you by {' and '.join(record.owners)}, who declare "
                "different preprocessing: upload it with your own declaration, or override the "
                "crop size, mean and std in the request",
                field="model.name",
                subject=record.sha256,
            )
        raise InvalidRequestError(
            f"{record.called} was uploaded without its preprocessing, so it accepts only "
            "tensors that you preprocessed. Upload it again with its preprocessing declared, or "
            "override the crop size, mean and std in the request",
            field="header.tensors",
            subject=record.sha256,
        )

    channel = len(model.input_shape) - 1 if channels_last else 0
    shape = tuple(
        size or (3 if axis == channel else _OPEN_SIZE)
        for axis, size in enumerate(model.input_shape)
    )
    return InputTransform(
        refuse,
        Preprocessing(value_range="", description="not declared", channel_order=""),
        InputSpec(shape),
        adapt=lambda changed: transform_of_declaration(changed, channels_last=channels_last),
    )
