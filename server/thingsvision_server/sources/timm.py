"""The source `timm`: every model of the library, with the data config of its pretrained tag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from timm.data import create_transform, infer_imagenet_subset, resolve_data_config
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg
from torch import nn

from ..inputs import IMAGE, InputTransform
from .base import ModelKey, Pretrained
from .catalogues.checkpoints import without_prefix
from .catalogues.pytorch import PyTorchSource
from .context import SourceContext
from .preprocessing.transforms import image_transform, read_steps
from .weights.folder import HUB_FILES, PublishedWeights
from .weights.state_dicts import StateDict


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the source."""
    return PyTorchSource(TimmCatalogue(), context.weights, convert=_strip_wrapper)


class TimmCatalogue:
    """A NetworkCatalogue of timm's models."""

    source = "timm"

    def names(self) -> list[str]:
        """Return the names of all architectures, sorted."""
        return sorted(timm.list_models())

    def task(self, name: str) -> str:
        """Return `features`, `classification`, or "" if the outputs are not known classes."""
        config = get_pretrained_cfg(name).to_dict()
        if not config["num_classes"]:
            return "features"
        return "classification" if infer_imagenet_subset(config) else ""

    def tags(self, name: str) -> list[str]:
        """Return the tags that have weights, the default first."""
        configs = get_arch_pretrained_cfgs(name)
        default = get_pretrained_cfg(name).tag
        tags = [config.tag for config in configs.values() if config.has_weights]
        return sorted(tags, key=lambda tag: (tag != default, tag))

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights of a tag are published."""
        config = get_pretrained_cfg(_full_name(name, tag))
        files = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
        repository, url = config.hf_hub_id or "", config.url or ""
        # Files saved by JAX can't be read here, and the hub has them converted.
        is_readable = not (repository and url.endswith(".npz"))
        return PublishedWeights(url if is_readable else "", repository, files if repository else ())

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return timm's own evaluation transform for the tag's data config."""
        config = self._data_config(key)
        compose = create_transform(**config, is_training=False)
        preprocessing = read_steps(compose.transforms, repr(compose))
        return {IMAGE: image_transform(compose, preprocessing, tuple(config["input_size"]))}

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the whole network as the image tower."""
        return {IMAGE: network}

    def _data_config(self, key: ModelKey) -> dict[str, Any]:
        tag = key.weights.tag if isinstance(key.weights, Pretrained) else ""
        config = get_pretrained_cfg(_full_name(key.name, tag))
        data_config: dict[str, Any] = resolve_data_config(pretrained_cfg=config.to_dict())
        return data_config

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        network: nn.Module = timm.create_model(name, pretrained=False)
        return network

    def build_for(self, name: str, tag: str) -> nn.Module:
        """Build the network that the weights of a tag fit, with initialised weights."""
        network: nn.Module = timm.create_model(_full_name(name, tag), pretrained=False)
        return network

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network as timm does for the tag, so that it converts old layouts of files."""
        network: nn.Module = timm.create_model(
            _full_name(name, tag), pretrained=True, pretrained_cfg_overlay={"state_dict": state}
        )
        # timm keeps the state dict in the model's config: a second copy of the weights.
        vars(network)["pretrained_cfg"]["state_dict"] = None
        return network


def _strip_wrapper(_name: str, state: StateDict) -> StateDict:
    """Remove the multi-GPU wrapper's prefix from I-JEPA's keys; timm expects them without it."""
    is_wrapped = "module.patch_embed.proj.weight" in state
    return without_prefix("module.")(state) if is_wrapped else state


def _full_name(name: str, tag: str) -> str:
    return f"{name}.{tag}" if tag else name
