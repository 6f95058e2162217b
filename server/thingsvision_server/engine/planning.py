"""What one request asks of a model, checked before anything is loaded; knows no device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..backends.compute_options import DEFAULT, ComputeOptions, MemoryFormat
from ..backends.taps import Tap, TokenExtraction, taps
from ..errors import InvalidRequestError, NotExtractableError
from ..inputs import (
    IMAGE,
    TEXT,
    InputSpec,
    InputTransform,
    PreprocessingOverrides,
    override,
    tensor_transform,
)
from ..sources.base import ModelKey
from .models.loading import ModelLoader
from .passes.work import Work
from .pca.fitted import FeatureFacts
from .reduction import WHOLE, Reduction

_IMAGE_AXES = 3

_NAMES_COLUMN = "image"
"""Column of the images' names in every reply: the contract's, beside one called as each module."""


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
    options: ComputeOptions = DEFAULT
    dtype: str = "float32"
    """Element type of the features: `float32` or `float16`."""
    deterministic: bool = False
    """Every image goes through the model alone."""
    reduction: Reduction = WHOLE
    pca: str = ""
    """SHA-256 or name of what reduces further; empty: nothing."""

    def facts(self, key: ModelKey, model_sha256: str, plan: Plan) -> FeatureFacts:
        """Return what the features depend on, for a PCA."""
        return FeatureFacts(
            model=str(key),
            model_sha256=model_sha256,
            preprocessing=plan.transform.preprocessing,
            token_extraction=self.tokens.value,
            options=self.options,
            reduction=self.reduction,
        )


@dataclass(frozen=True)
class Plan:
    """What to do with images, and how they become inputs."""

    work: Work
    transform: InputTransform
    row_shapes: list[tuple[int, ...]]
    """Shape of one image's features, per module in the order asked for."""
    is_provisional: bool = False
    """Whether the plan must be made again once the model is loaded."""

    def with_pass_size(self, image_count: int) -> Plan:
        """Return the same with so many images in every pass."""
        return replace(self, work=replace(self.work, pass_size=image_count))


def plan(loader: ModelLoader, key: ModelKey, spec: ExtractSpec) -> Plan:
    """Return the plan for a resolved model, or raise what is wrong with the request; may block."""
    own = loader.transforms(key)
    images = _images(own[IMAGE], spec)
    changed = images.spec.shape if images.spec.shape != own[IMAGE].spec.shape else None
    structure = loader.structure(key, changed)
    found = taps(structure, spec.modules, spec.tokens)
    _check_names(found)
    modality = found[0].modality
    if modality != IMAGE:
        _check_own_way(spec, modality)
    transform = images if modality == IMAGE else own[modality]
    _check_memory_format(spec, transform.spec)
    work = Work(
        taps=found,
        spec=transform.spec,
        options=spec.options,
        reduction=spec.reduction,
        dtype=spec.dtype,
    )
    return Plan(work, transform, work.row_shapes, structure.is_provisional)


def _check_names(found: Sequence[Tap]) -> None:
    for tap in found:
        if tap.name == _NAMES_COLUMN:
            raise NotExtractableError(
                f"module {tap.name!r} is called as the column of the images' names in a reply; ask "
                f"for the same by its call in a pass, {f'{tap.name}@t={tap.calls[-1]}'!r}, or "
                "rename it in your network",
                field="modules",
                subject=tap.name,
            )


def _check_own_way(spec: ExtractSpec, modality: str) -> None:
    if spec.overrides is None and spec.tensor_shape is None:
        return
    field = "overrides" if spec.tensor_shape is None else "tensors"
    sentence = f"{field} are about images, and module {spec.modules[0]!r} sees {modality}s"
    raise InvalidRequestError(sentence, field=field)


def _check_memory_format(spec: ExtractSpec, inputs: InputSpec) -> None:
    chosen = spec.options.memory_format.value
    if spec.options.memory_format is MemoryFormat.CONTIGUOUS or len(inputs.shape) == _IMAGE_AXES:
        return
    sees = "texts" if inputs.modality == TEXT else f"inputs of shape {list(inputs.shape)}"
    raise InvalidRequestError(
        f"memory_format {chosen} is about images of channels x height x width, and module "
        f"{spec.modules[0]!r} sees {sees}; valid: contiguous",
        field="memory_format",
        subject=chosen,
    )


def _images(own: InputTransform, spec: ExtractSpec) -> InputTransform:
    if spec.tensor_shape is not None:
        return tensor_transform(spec.tensor_shape)
    if spec.overrides is not None:
        return override(own, spec.overrides)
    return own
