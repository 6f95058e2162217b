"""What one request asks of a model, checked before anything is loaded; knows no device."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.taps import Tap, TokenExtraction, taps
from ..errors import InvalidRequestError
from ..inputs import (
    IMAGE,
    InputTransform,
    PreprocessingOverrides,
    overridden,
    tensors_as_they_are,
)
from ..sources.base import ModelKey
from .loading import ModelLoader


@dataclass(frozen=True)
class ExtractSpec:
    """What to extract."""

    key: ModelKey
    modules: tuple[str, ...]
    batch_size: int = 0
    """Images in a forward pass; 0: as many as are ready, with those of other requests."""
    tokens: TokenExtraction = TokenExtraction.NONE
    overrides: PreprocessingOverrides | None = None
    """Changes of the model's own preprocessing."""
    tensor_shape: tuple[int, ...] | None = None
    """Shape of one image where images come as tensors that are preprocessed already."""


@dataclass(frozen=True)
class Plan:
    """What to take of a model, and how its inputs are made."""

    taps: tuple[Tap, ...]
    transform: InputTransform


def plan(loader: ModelLoader, key: ModelKey, spec: ExtractSpec) -> Plan:
    """Return the plan for a resolved model, or raise what is wrong with the request; may block."""
    own = loader.transforms(key)
    images = _images(own[IMAGE], spec)
    changed = images.spec.shape if images.spec.shape != own[IMAGE].spec.shape else None
    found = taps(loader.structure(key, changed), spec.modules, spec.tokens)
    modality = found[0].modality
    if modality == IMAGE:
        return Plan(found, images)
    _check_own_way(spec, modality)
    return Plan(found, own[modality])


def _check_own_way(spec: ExtractSpec, modality: str) -> None:
    if spec.overrides is None and spec.tensor_shape is None:
        return
    field = "overrides" if spec.tensor_shape is None else "tensors"
    sentence = f"{field} are about images, and module {spec.modules[0]!r} sees {modality}s"
    raise InvalidRequestError(sentence, field=field)


def _images(own: InputTransform, spec: ExtractSpec) -> InputTransform:
    if spec.tensor_shape is not None:
        return tensors_as_they_are(spec.tensor_shape)
    if spec.overrides is not None:
        return overridden(own, spec.overrides)
    return own
