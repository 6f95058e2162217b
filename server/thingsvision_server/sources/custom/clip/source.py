"""The family `clip/...` and `OpenCLIP/...` of the source `custom`: all networks of open_clip.

Each has an image tower `visual` and a text tower `text`; their outputs are the features of
open_clip's `encode_image` and `encode_text`, not normalised.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ....inputs import IMAGE, TEXT, InputTransform
from ...base import ModelKey, Pretrained
from ...catalogues.checkpoints import without_prefix
from ...catalogues.pytorch import PyTorchSource
from ...context import SourceContext
from ...preprocessing.transforms import transform_of
from ...weights.folder import PublishedWeights, WeightsFolder
from ...weights.state_dicts import StateDict
from .texts import TextTokenizer, hub_folder
from .variants import open_clip_variants

_METADATA = ("input_resolution", "context_length", "vocab_size")
"""Keys in OpenAI's own files that are not weights."""

_load_lock = threading.Lock()


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the family."""
    return PyTorchSource(ClipCatalogue(context.weights), context.weights, convert=_convert)


class ClipCatalogue:
    """A NetworkCatalogue of open_clip's networks."""

    source = "custom"

    def __init__(self, weights: WeightsFolder) -> None:
        self._weights = weights
        self._variants = open_clip_variants()
        self._tokenizers = {
            name: TextTokenizer(variant, weights) for name, variant in self._variants.items()
        }

    def names(self) -> list[str]:
        """Return the names of all networks, sorted."""
        return sorted(self._variants)

    def tags(self, name: str) -> list[str]:
        """Return the pretrained tags in open_clip's order; the first is the default."""
        return list(self._variants[name].pretrained)

    def task(self, name: str) -> str:
        """Return the task of all models."""
        return "image-text similarity"

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights of a tag are published."""
        return self._variants[name].find_published(tag)

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the transforms for these weights, or else for the default weights."""
        tag = key.weights.tag if isinstance(key.weights, Pretrained) else ""
        images = transform_of(self._variants[key.name].preprocessing(tag))
        return {IMAGE: images, TEXT: self._tokenizers[key.name].transform()}

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the image tower and the text tower."""
        return {IMAGE: network.get_submodule("visual"), TEXT: network.get_submodule("text")}

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        return self._build(name)

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network that the weights of a tag fit, and load them as open_clip does."""
        network = self._build(name, tag)
        _load_checkpoint(network, state)
        return network

    def _build(self, name: str, tag: str = "") -> nn.Module:
        import open_clip

        variant = self._variants[name]
        config = variant.configuration()
        config.pop("custom_text", None)
        config["quick_gelu"] = variant.has_quick_gelu(tag)
        if "hf_model_name" in config["text_cfg"]:
            self._use_local_text_config(config["text_cfg"])
        # Of open_clip's classes, the ones with the text tower as a module of its own.
        kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
        network: nn.Module = kind(**config)
        return network

    def _use_local_text_config(self, text: dict[str, Any]) -> None:
        files = (("config.json",),)
        folder = hub_folder(self._weights, text["hf_model_name"], files, purpose="its text tower")
        text |= {"hf_model_name": str(folder), "hf_model_pretrained": False}


def _load_checkpoint(network: nn.Module, state: StateDict) -> None:
    from open_clip.factory import load_checkpoint

    try:
        with _patch_file_reader(state):
            load_checkpoint(network, "the tensors in memory")
    # open_clip raises these if a key that it converts is missing.
    except (KeyError, AttributeError, AssertionError) as error:
        raise RuntimeError(f"open_clip can't convert it: {error!r}") from error


@contextmanager
def _patch_file_reader(state: StateDict) -> Iterator[None]:
    """Make open_clip read these tensors from any path: its conversion only takes a path."""
    from open_clip import factory

    with _load_lock:
        original = factory.load_state_dict
        factory.load_state_dict = lambda *_args, **_kwargs: state
        try:
            yield
        finally:
            factory.load_state_dict = original


def _convert(_name: str, state: StateDict) -> StateDict:
    """Rename the tensors of OpenAI's files, and of open_clip's other class, to our layout."""
    from open_clip.model import convert_to_custom_text_state_dict

    # Training on several devices adds a prefix to every name.
    plain = without_prefix("module.")(state)
    plain = {key: tensor for key, tensor in plain.items() if key not in _METADATA}
    if "positional_embedding" not in plain:
        return plain
    converted: StateDict = convert_to_custom_text_state_dict(plain)
    return converted
