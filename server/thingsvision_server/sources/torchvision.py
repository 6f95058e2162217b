"""The source `torchvision`: every classification model of the library, found by reflection."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torchvision
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.transforms._presets import ImageClassification

from ..inputs import IMAGE, InputTransform, Preprocessing
from .base import ModelKey, Pretrained
from .context import SourceContext
from .pytorch import PyTorchSource
from .transforms import image_transform
from .weights import PublishedWeights, StateDict

_IMAGENET = ImageClassification(crop_size=224)


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the source."""
    return PyTorchSource(TorchvisionCatalogue(), context.weights)


class TorchvisionCatalogue:
    """What torchvision knows of its classification models."""

    source = "torchvision"

    def __init__(self) -> None:
        self._building: defaultdict[Any, threading.Lock] = defaultdict(threading.Lock)

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(models.list_models(module=torchvision.models))

    def tags(self, name: str) -> list[str]:
        """Return the names of the members of the model's weights enum, the default first."""
        members = list(models.get_model_weights(name))
        default = next(iter(_default(name)), None)
        members.sort(key=lambda member: member != default)
        return [member.name for member in members]

    def published(self, name: str, tag: str) -> PublishedWeights:
        """Tell where the weights of a tag are published."""
        return PublishedWeights(url=_member(name, tag).url)

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return `weights.transforms()` of the weights in use (else of the default ones)."""
        preset = self._preset(key)
        preprocessing = _preprocessing(preset)
        return {IMAGE: image_transform(preset, preprocessing, (3, *preprocessing.crop_pixels))}

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the network: all of it sees images."""
        return {IMAGE: network}

    def _preset(self, key: ModelKey) -> ImageClassification:
        if isinstance(key.weights, Pretrained):
            preset = _member(key.name, key.weights.tag).transforms()
        else:
            preset = next((weights.transforms() for weights in _default(key.name)), _IMAGENET)
        if not isinstance(preset, ImageClassification):
            raise TypeError(f"{key} has the unknown transform {preset}")
        return preset

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        network: nn.Module = models.get_model_builder(name)(weights=None)
        return network

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network as torchvision does for these weights.

        Its builders set more than parameters by them (Inception and GoogLeNet rescale their
        input), so they are run with the enum's member, which is handed our tensors.
        """
        weights = _member(name, tag)
        with self._building[weights], _state_dict_of(weights, state):
            network: nn.Module = models.get_model_builder(name)(weights=weights)
            return network


@contextmanager
def _state_dict_of(weights: WeightsEnum, state: StateDict) -> Iterator[None]:
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


def _preprocessing(preset: ImageClassification) -> Preprocessing:
    crop = list(preset.crop_size)
    return Preprocessing(
        resize_pixels=tuple(preset.resize_size),
        interpolation=preset.interpolation.value,
        antialias=bool(preset.antialias),
        crop_pixels=tuple(crop if len(crop) == 2 else crop * 2),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        description=repr(preset),
    )
