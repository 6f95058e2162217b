"""The source `timm`: every model of the library, with the data config of its pretrained tag."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import timm
from timm.data import create_transform, resolve_data_config
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg
from torch import nn
from torchvision import transforms

from ..images import ImageTransform, Preprocessing
from .base import ModelKey, Pretrained
from .pytorch import PyTorchSource
from .weights import PublishedWeights, StateDict, WeightsFolder

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def open_source(weights: WeightsFolder) -> PyTorchSource:
    """Open the source over a weights folder."""
    return PyTorchSource(TimmCatalogue(), weights)


class TimmCatalogue:
    """What timm knows of its models."""

    source = "timm"

    def names(self) -> list[str]:
        """Return the names of all architectures, sorted."""
        return sorted(timm.list_models())

    def tags(self, name: str) -> list[str]:
        """Return the tags with weights, the default first."""
        configs = get_arch_pretrained_cfgs(name)
        default = get_pretrained_cfg(name).tag
        tags = [config.tag for config in configs.values() if config.has_weights]
        return sorted(tags, key=lambda tag: (tag != default, tag))

    def published(self, name: str, tag: str) -> PublishedWeights:
        """Tell where the weights of a tag are published."""
        config = get_pretrained_cfg(_full_name(name, tag))
        files = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
        repository = config.hf_hub_id or ""
        return PublishedWeights(config.url or "", repository, files if repository else ())

    def input_shape(self, key: ModelKey) -> tuple[int, int, int]:
        """Return the model's own input size, C x H x W."""
        channels, height, width = self._data_config(key)["input_size"]
        return channels, height, width

    def transform(self, key: ModelKey) -> ImageTransform:
        """Return timm's own evaluation transform for the tag's data config."""
        compose = create_transform(**self._data_config(key), is_training=False)
        return ImageTransform(compose, _preprocessing(compose.transforms, repr(compose)))

    def _data_config(self, key: ModelKey) -> dict[str, Any]:
        tag = key.weights.tag if isinstance(key.weights, Pretrained) else ""
        config = get_pretrained_cfg(_full_name(key.name, tag))
        data_config: dict[str, Any] = resolve_data_config(pretrained_cfg=config.to_dict())
        return data_config

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        network: nn.Module = timm.create_model(name, pretrained=False)
        return network

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network as timm does for the tag: it converts old layouts of files."""
        network: nn.Module = timm.create_model(
            _full_name(name, tag), pretrained=True, pretrained_cfg_overlay={"state_dict": state}
        )
        # timm keeps what it was given with the model: a second copy of the weights.
        vars(network)["pretrained_cfg"]["state_dict"] = None
        return network


def _full_name(name: str, tag: str) -> str:
    return f"{name}.{tag}" if tag else name


def _preprocessing(steps: Iterable[Any], description: str) -> Preprocessing:
    """Read the parameters off the transform itself, so that they can't differ from it."""
    found: dict[str, Any] = {}
    for step in steps:
        for kind, read in _STEPS.items():
            if isinstance(step, kind):
                found |= read(step)
    return Preprocessing(**found, description=description)


def _sizes(size: int | Iterable[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def _decimal(value: Any) -> float:
    """Return the shortest decimal of a float32: 0.485, not 0.48500001430511475."""
    return float(str(np.float32(value)))


_STEPS: dict[type, Callable[[Any], dict[str, Any]]] = {
    transforms.Resize: lambda step: {
        "resize_pixels": _sizes(step.size),
        "interpolation": step.interpolation.value,
        "antialias": True,  # Pillow always low-pass filters when it shrinks
    },
    transforms.CenterCrop: lambda step: {"crop_pixels": _sizes(step.size)},
    transforms.Normalize: lambda step: {
        "mean": tuple(map(_decimal, step.mean)),
        "std": tuple(map(_decimal, step.std)),
    },
}
