"""The source `torchvision`: every model of the library whose only input is images."""

from __future__ import annotations

import inspect
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torchvision
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.transforms._presets import (
    ImageClassification,
    ObjectDetection,
    SemanticSegmentation,
)

from ...backends.torch.skeleton import without_parameters
from ...inputs import IMAGE, InputTransform, Preprocessing
from ..base import ModelKey, Pretrained
from ..catalogues.pytorch import PyTorchSource
from ..context import SourceContext
from ..preprocessing.transforms import image_transform
from ..weights.folder import PublishedWeights
from ..weights.state_dicts import StateDict, with_version
from .detection import UpToDetections, detection_side

_TASKS: Mapping[str, Any] = {
    "classification": torchvision.models,
    "detection": torchvision.models.detection,
    "segmentation": torchvision.models.segmentation,
}
"""The modules with models; all other models take videos or pairs of images, or are quantized."""

_WITH_AUX_LOGITS = ("googlenet", "inception_v3")
"""Networks whose builders pass `aux_logits` on without naming it in their signature."""

_IMAGENET = ImageClassification(crop_size=224)

_ARCHITECTURE = {"weights": None, "weights_backbone": None, "aux_loss": True}
"""Options of builders for the published weights' architecture, without loading any weights.

Each builder takes some of them.
"""


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the source."""
    return PyTorchSource(TorchvisionCatalogue(), context.weights)


class TorchvisionCatalogue:
    """A NetworkCatalogue of torchvision's models."""

    source = "torchvision"

    def __init__(self) -> None:
        self._tasks = {
            name: task for task, part in _TASKS.items() for name in models.list_models(module=part)
        }
        self._locks: defaultdict[Any, threading.Lock] = defaultdict(threading.Lock)

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._tasks)

    def respell(self, key: ModelKey) -> ModelKey:
        """Return the key with its name in lower case, and its tag without the enum's name."""
        name, weights = key.name.lower(), key.weights
        if name not in self._tasks:
            return key
        if isinstance(weights, Pretrained):
            tag = weights.tag.removeprefix(f"{models.get_model_weights(name).__name__}.")
            weights = Pretrained("" if tag == "DEFAULT" and _default(name) else tag)
        return replace(key, name=name, weights=weights)

    def is_name(self, name: str) -> bool:
        """Tell whether a name that is not listed is a model: none is."""
        return name in self._tasks

    def task(self, name: str) -> str:
        """Return a model's task."""
        return self._tasks[name]

    def tags(self, name: str) -> list[str]:
        """Return the names of the members of the model's weights enum, the default first."""
        members = list(models.get_model_weights(name))
        default = next(iter(_default(name)), None)
        members.sort(key=lambda member: member != default)
        return [member.name for member in members]

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights of a tag are published."""
        return PublishedWeights(url=_member(name, tag).url)

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return `weights.transforms()` of the weights in use, or else of the default weights."""
        tag = key.weights.tag if isinstance(key.weights, Pretrained) else None
        return {IMAGE: _transform(key.name, tag)}

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the network; for detection, only the part with one output per image."""
        detects = type(network).__module__.startswith(_TASKS["detection"].__name__)
        return {IMAGE: UpToDetections(network) if detects else network}

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        return _build(name)

    def build_for(self, name: str, tag: str) -> nn.Module:
        """Build the network that the weights of a tag fit, with initialised weights."""
        if _input_side(name) is None:
            return _build(name)
        (side,) = _member(name, tag).transforms().crop_size
        return _build(name, image_size=side)

    def build_fitting(self, name: str, state: StateDict) -> nn.Module:
        """Build the network with training-only heads only if the state dict has them."""
        has_heads = any(key.lower().startswith("aux") for key in state)
        return _build(name) if has_heads else _build(name, **_without_heads(name))

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network as torchvision does for these weights.

        Its builders change more than parameters for them (Inception and GoogLeNet rescale their
        input), so they are called with the enum's member, patched to return our tensors.
        """
        weights = _member(name, tag)
        # MNASNet is the one class that rejects a state dict without a version.
        versioned = with_version(state, models.MNASNet._version)  # noqa: SLF001
        with self._locks[weights], _patch_state_dict(weights, versioned):
            network: nn.Module = models.get_model_builder(name)(weights=weights)
            return network


def _build(name: str, **options: int) -> nn.Module:
    parameters = _parameters(name)
    defaults = {option: value for option, value in _ARCHITECTURE.items() if option in parameters}
    network: nn.Module = models.get_model_builder(name)(**{**defaults, **options})
    return network


def _without_heads(name: str) -> dict[str, int]:
    """Return a builder's options that leave out training-only heads."""
    if name in _WITH_AUX_LOGITS:
        return {"aux_logits": False}
    return {"aux_loss": False} if "aux_loss" in _parameters(name) else {}


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(models.get_model_builder(name)).parameters


@contextmanager
def _patch_state_dict(weights: WeightsEnum, state: StateDict) -> Iterator[None]:
    vars(weights)["get_state_dict"] = lambda *_args, **_kwargs: state
    try:
        yield
    finally:
        del vars(weights)["get_state_dict"]


def _member(name: str, tag: str) -> WeightsEnum:
    member: WeightsEnum = models.get_model_weights(name)[tag]
    return member


def _default(name: str) -> list[WeightsEnum]:
    default = getattr(models.get_model_weights(name), "DEFAULT", None)
    return [] if default is None else [default]


@cache
def _transform(name: str, tag: str | None) -> InputTransform:
    """Return the transform of a tag's weights; None: of other weights than published ones.

    Every call asks for it, and to make it takes longer than the rest of a call's plan.
    """
    preset = _preset(name, tag)
    preprocessing, side_pixels = _READERS[type(preset)](preset, name)
    crop = preprocessing.crop_pixels or (side_pixels, side_pixels)
    return image_transform(preset, preprocessing, (3, *crop))


def _preset(name: str, tag: str | None) -> Any:
    preset = _preset_without_weights(name) if tag is None else _member(name, tag).transforms()
    if type(preset) not in _READERS:
        known = ", ".join(kind.__name__ for kind in _READERS)
        raise TypeError(f"the transform of {name} must be one of {known}, got {preset}")
    return preset


def _read_classification(preset: Any, name: str) -> tuple[Preprocessing, int]:
    uncropped, _ = _read_segmentation(preset, name)
    crop = list(preset.crop_size)
    return replace(uncropped, crop_pixels=tuple(crop if len(crop) == 2 else crop * 2)), crop[0]


def _read_segmentation(preset: Any, _name: str) -> tuple[Preprocessing, int]:
    """Read a preset that resizes the shorter side and does not crop."""
    preprocessing = Preprocessing(
        resize_pixels=tuple(preset.resize_size),
        interpolation=preset.interpolation.value,
        antialias=bool(preset.antialias),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        description=repr(preset),
    )
    return preprocessing, preset.resize_size[0]


def _read_detection(preset: Any, name: str) -> tuple[Preprocessing, int]:
    """Read a preset that only makes tensors; the network itself resizes and normalises them."""
    own = " ".join(str(_own_transform(name)).split())
    return Preprocessing(description=f"{preset!r}, then the network's own {own}"), _side(name)


@cache
def _preset_without_weights(name: str) -> Any:
    """Return the preset of the default weights, or else the first that fits the network's size.

    ViT-H/14 is built for 224 x 224 by default, but its default weights are for 518 x 518.
    """
    members = [*_default(name), *models.get_model_weights(name)]
    presets = [member.transforms() for member in members]
    side = _input_side(name)
    fitting = (preset for preset in presets if side is None or preset.crop_size == [side])
    return next(fitting, _IMAGENET)


@cache
def _input_side(name: str) -> int | None:
    """Return the side of images that a network is built for, pixels; None if it takes any size."""
    with without_parameters():
        return getattr(_build(name), "image_size", None)


@cache
def _own_transform(name: str) -> nn.Module:
    with without_parameters():
        return _build(name).get_submodule("transform")


def _side(name: str) -> int:
    return detection_side(_own_transform(name))


_READERS: Mapping[type, Callable[[Any, str], tuple[Preprocessing, int]]] = {
    ImageClassification: _read_classification,
    ObjectDetection: _read_detection,
    SemanticSegmentation: _read_segmentation,
}
"""For each type of preset: a function that returns its preprocessing, and the side of square
images for the model, pixels."""
