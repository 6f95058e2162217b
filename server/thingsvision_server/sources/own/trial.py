"""Tries a model that is being uploaded: what can't be used is refused before it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...backends.children.guests import GuestRuntime
from ...backends.tensorflow.model import TensorFlowRuntime
from ...errors import InvalidRequestError, InvalidWeightsError
from ..uploads.records import UploadRecord
from .source import WholeModel, describe_model, open_model, transform_of

_TRIED = ("pt2", "onnx")
"""Formats that are loaded and run at the upload; Keras models would need TensorFlow."""

_SMALL_SIZE = 64
"""Height and width of the second images if a model takes any size, pixels."""


def check_usable(
    path: Path, record: UploadRecord, tensorflow: TensorFlowRuntime, guests: GuestRuntime
) -> None:
    """Raise InvalidWeightsError if a model can't be loaded or run, or gives no features."""
    if record.format not in _TRIED:
        return
    try:
        model = open_model(path, record, tensorflow, guests)
        _check_runs(model, record)
    except InvalidWeightsError:
        raise
    except InvalidRequestError as error:
        raise InvalidWeightsError(str(error), subject=record.called) from error


def _check_runs(model: WholeModel, record: UploadRecord) -> None:
    failure: InvalidRequestError | None = None
    for shape in _shapes(model, record):
        try:
            structure = describe_model(model, record.called, shape)
        except InvalidRequestError as error:
            failure = failure or error
            continue
        if all(module.reason for module in structure.modules):
            reasons = sorted({module.reason for module in structure.modules})
            raise InvalidWeightsError(
                f"nothing can be extracted from {record.called}: {'; '.join(reasons[:3])}",
                subject=record.called,
            )
        return
    if failure is not None:
        raise failure


def _shapes(model: WholeModel, record: UploadRecord) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of inputs to try: as declared, then others that the model says it takes.

    A request may override a declared size, so a declaration that does not fit is no reason.
    """
    yield transform_of(model, record).spec.shape
    own = transform_of(model, replace(record, preprocessing=None)).spec.shape
    yield own
    yield tuple(
        size if known or size <= 4 else _SMALL_SIZE
        for size, known in zip(own, model.input_shape, strict=True)
    )
