"""The source `timm`: every model of the library, with the data config of its pretrained tag."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import timm
from timm.data import create_transform, infer_imagenet_subset, resolve_data_config
from timm.models import (
    get_arch_pretrained_cfgs,
    get_deprecated_models,
    get_pretrained_cfg,
    split_model_name_tag,
)
from torch import nn

from ..errors import InvalidRequestError, UnknownWeightsError, choices
from ..inputs import IMAGE, InputTransform
from .base import ModelKey, Pretrained
from .catalogues.checkpoints import without_prefix
from .catalogues.pytorch import PyTorchSource
from .context import SourceContext
from .preprocessing.transforms import image_transform, read_steps
from .weights.folder import HUB_FILES, PublishedWeights
from .weights.state_dicts import StateDict

_HUB_PREFIX = re.compile(r"^(hf[-_]hub:)?timm/")
"""Of names as on the hub, such as `hf-hub:timm/resnet50.a1_in1k`."""


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the source."""
    return PyTorchSource(TimmCatalogue(), context.weights, convert=_strip_wrapper)


class TimmCatalogue:
    """A NetworkCatalogue of timm's models."""

    source = "timm"

    def names(self) -> list[str]:
        """Return the names of all architectures, sorted."""
        return sorted(timm.list_models())

    def respell(self, key: ModelKey) -> ModelKey:
        """Return the key of a name with a tag, or one that timm has renamed, as timm reads it."""
        name, tag = split_model_name_tag(_HUB_PREFIX.sub("", key.name))
        if current := get_deprecated_models().get(name):
            name, own_tag = split_model_name_tag(current)
            tag = tag or _current_tag(name, own_tag)
        if not timm.is_model(name):
            return key
        weights = key.weights
        if isinstance(weights, Pretrained):
            chosen = weights.tag.removeprefix(f"{name}.")
            if tag and chosen not in ("", tag):
                raise InvalidRequestError(
                    f"the weights of timm/{key.name} must be {tag!r}, as its name says, got "
                    f"{chosen!r}; leave either out",
                    field="model.pretrained_tag",
                    subject=chosen,
                )
            return replace(key, name=name, weights=Pretrained(tag or chosen))
        if tag and tag not in _all_tags(name):
            raise UnknownWeightsError(
                f"timm/{name} has no tag {tag!r}. {choices(tag, _all_tags(name))}",
                field="model.name",
                subject=key.name,
            )
        # The networks of two tags may differ, such as in their number of classes.
        is_default = tag in ("", get_pretrained_cfg(name).tag)
        return replace(key, name=name if is_default else _full_name(name, tag))

    def is_name(self, name: str) -> bool:
        """Tell whether a name is a model with one of its tags."""
        name, tag = split_model_name_tag(name)
        return bool(tag) and timm.is_model(name) and tag in _all_tags(name)

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


def _all_tags(name: str) -> list[str]:
    """Return the tags of a model, with and without weights."""
    return [config.tag for config in get_arch_pretrained_cfgs(name).values()]


def _current_tag(name: str, tag: str) -> str:
    """Return the tag that timm's list of old names means: `sam` is called `sam_in1k` now."""
    tags = _all_tags(name) if timm.is_model(name) else []
    longer = [one for one in tags if one.startswith(f"{tag}_")]
    return longer[0] if tag and tag not in tags and len(longer) == 1 else tag


def _full_name(name: str, tag: str) -> str:
    return f"{name}.{tag}" if tag else name
