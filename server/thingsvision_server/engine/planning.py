"""Checks what a request asks of a model, and plans its passes, before anything is loaded."""

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
    Preprocessing,
    PreprocessingOverrides,
    override,
    tensor_transform,
)
from ..sources.base import ModelKey
from ..sources.preprocessing.declaration import explicit_transform
from .models.loading import ModelLoader
from .passes.cores import CorePlan
from .passes.forward import ForwardSpec
from .passes.limits import predict_inner_bytes
from .pca.fitted import FeatureFacts
from .reduction import NO_REDUCTION, Reduction

_IMAGE_AXES = 3

_NAMES_COLUMN = "image"
"""Column of image names in every reply, beside a column for each module (see the contract)."""


@dataclass(frozen=True)
class ExtractSpec:
    """What to extract."""

    key: ModelKey
    modules: tuple[str, ...]
    batch_size: int = 0
    """Images in a forward pass; 0: as many as are ready, with those of other requests."""
    image_count: int = 0
    """Images of the request, as announced; 0: unknown."""
    cores: CorePlan | None = None
    """The cores of passes, if they are part of an extraction that began earlier."""
    tokens: TokenExtraction = TokenExtraction.NONE
    overrides: PreprocessingOverrides | None = None
    """Changes of the model's own preprocessing."""
    tensor_shape: tuple[int, ...] | None = None
    """Shape of one image, if images are sent as preprocessed tensors."""
    preprocessing: Preprocessing | None = None
    """Preprocessing in the place of the model's own."""
    options: ComputeOptions = DEFAULT
    dtype: str = "float32"
    """Element type of the features: `float32` or `float16`."""
    deterministic: bool = False
    """Whether each image has a forward pass of its own."""
    reduction: Reduction = NO_REDUCTION
    pca: str = ""
    """SHA-256 or name of a PCA that reduces the features further; empty: none."""
    skips_bad_images: bool = False
    """Whether images that can't be used are left out, in the place of an error."""

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
    """What to compute of images, and how to make inputs of them."""

    forward: ForwardSpec
    transform: InputTransform
    row_shapes: list[tuple[int, ...]]
    """Shape of one image's features, per module in the requested order."""
    is_provisional: bool = False
    """Whether the plan must be made again once the model is loaded."""

    def with_pass_size(self, image_count: int) -> Plan:
        """Return the plan with `image_count` images in every pass."""
        return replace(self, forward=replace(self.forward, pass_size=image_count))


def plan(loader: ModelLoader, key: ModelKey, spec: ExtractSpec) -> Plan:
    """Return the plan for a resolved model; raise if the request is not valid; may block."""
    own = loader.transforms(key)
    images = image_transform(own[IMAGE], spec)
    changed = images.spec.shape if images.spec.shape != own[IMAGE].spec.shape else None
    structure = loader.structure(key, changed)
    found = taps(structure, spec.modules, spec.tokens)
    _check_names(found)
    modality = found[0].modality
    if modality != IMAGE:
        _check_image_options(spec, modality)
    transform = images if modality == IMAGE else own[modality]
    _check_memory_format(spec, transform.spec)
    forward = ForwardSpec(
        taps=found,
        input_spec=transform.spec,
        options=spec.options,
        reduction=spec.reduction,
        dtype=spec.dtype,
        inner_bytes=predict_inner_bytes(structure, found),
    )
    return Plan(forward, transform, forward.row_shapes, structure.is_provisional)


def _check_names(found: Sequence[Tap]) -> None:
    for tap in found:
        if tap.name == _NAMES_COLUMN:
            raise NotExtractableError(
                f"module {tap.name!r} has the same name as the reply's column of image names; "
                f"request it as {f'{tap.name}@t={tap.calls[-1]}'!r}, or rename it in your network",
                field="modules",
                subject=tap.name,
            )


def _check_image_options(spec: ExtractSpec, modality: str) -> None:
    given = {
        "overrides": spec.overrides,
        "tensors": spec.tensor_shape,
        "preprocessing": spec.preprocessing,
    }
    field = next((name for name, value in given.items() if value is not None), None)
    if field is None:
        return
    sentence = f"`{field}` must be left out: module {spec.modules[0]!r} has {modality} inputs"
    raise InvalidRequestError(sentence, field=field)


def _check_memory_format(spec: ExtractSpec, inputs: InputSpec) -> None:
    chosen = spec.options.memory_format.value
    if spec.options.memory_format is MemoryFormat.CONTIGUOUS or len(inputs.shape) == _IMAGE_AXES:
        return
    taken = "texts" if inputs.modality == TEXT else f"inputs of shape {list(inputs.shape)}"
    raise InvalidRequestError(
        f"`memory_format` of module {spec.modules[0]!r} must be contiguous, got {chosen}: the "
        f"module takes {taken}, not images of channels x height x width",
        field="memory_format",
        subject=chosen,
    )


def image_transform(own: InputTransform, spec: ExtractSpec) -> InputTransform:
    """Return the transform that a request asks for, in the place of a model's own."""
    if spec.tensor_shape is not None:
        return tensor_transform(spec.tensor_shape)
    if spec.preprocessing is not None:
        return explicit_transform(spec.preprocessing, own)
    if spec.overrides is not None:
        return override(own, spec.overrides)
    return own
