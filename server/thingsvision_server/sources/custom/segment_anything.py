"""The family `SegmentAnything` of the source `custom`: its image encoders, from `transformers`.

Kirillov et al. 2023 (arXiv:2304.02643). The prompt encoder and the mask decoder are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from ...inputs import IMAGE, InputTransform, Preprocessing
from ..base import ModelKey
from ..catalogues.pytorch import PyTorchSource
from ..context import SourceContext
from ..hugging_face.image_processors import lazy_processor_transform
from ..preprocessing.transforms import IMAGENET
from ..weights.folder import HUB_FILES, PublishedWeights
from ..weights.state_dicts import StateDict, load_state

_TAG = "sa1b"
_URL = "https://dl.fbaipublicfiles.com/segment_anything"
_SIDE = 1024
_ENCODER = "vision_encoder."

_SIZES: Mapping[str, dict[str, Any]] = {
    "vit_b": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "global_attn_indexes": [2, 5, 8, 11],
    },
    "vit_l": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "vit_h": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}

_WEIGHTS: Mapping[str, PublishedWeights] = {
    "vit_b": PublishedWeights(f"{_URL}/sam_vit_b_01ec64.pth", "facebook/sam-vit-base", HUB_FILES),
    "vit_l": PublishedWeights(f"{_URL}/sam_vit_l_0b3195.pth", "facebook/sam-vit-large", HUB_FILES),
    "vit_h": PublishedWeights(f"{_URL}/sam_vit_h_4b8939.pth", "facebook/sam-vit-huge", HUB_FILES),
}
"""Meta's own files, and repositories with the same tensors under the library's names."""

_PARAMETER_COUNTS = {"vit_b": 89_670_912, "vit_l": 308_278_272, "vit_h": 637_026_048}

_LIBRARY_NAMES: Mapping[str, str] = {
    r"^image_encoder\.": _ENCODER,
    r"\.patch_embed\.proj\.": ".patch_embed.projection.",
    r"\.blocks\.": ".layers.",
    r"\.norm(?=[12]\.)": ".layer_norm",
    r"\.neck\.0\.": ".neck.conv1.",
    r"\.neck\.1\.": ".neck.layer_norm1.",
    r"\.neck\.2\.": ".neck.conv2.",
    r"\.neck\.3\.": ".neck.layer_norm2.",
}
"""Patterns in Meta's tensor names of the image encoder, and the library's names."""

_PREPROCESSING = Preprocessing(
    interpolation="bilinear",
    antialias=True,
    mean=IMAGENET.mean,
    std=IMAGENET.std,
    description=f"SamImageProcessor: longer side to {_SIDE}, values normalised, then zeros at the "
    f"right and the bottom up to {_SIDE} x {_SIDE}",
)


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the family."""
    counts = {_full_name(variant): count for variant, count in _PARAMETER_COUNTS.items()}
    catalogue = SegmentAnythingCatalogue()
    return PyTorchSource(
        catalogue, context.weights, convert=catalogue.convert, parameter_counts=counts
    )


def _full_name(variant: str) -> str:
    return f"SegmentAnything/{variant}"


class SegmentAnythingCatalogue:
    """A NetworkCatalogue of three sizes of one encoder."""

    source = "custom"

    def __init__(self) -> None:
        self._variants = {_full_name(variant): variant for variant in _SIZES}
        shape = (3, _SIDE, _SIDE)
        self._images = lazy_processor_transform(_open_processor, _PREPROCESSING, shape)

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._variants)

    def tags(self, name: str) -> list[str]:
        """Return the one tag."""
        return [_TAG]

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights are published."""
        return _WEIGHTS[self._variants[name]]

    def task(self, name: str) -> str:
        """Return the task of all models."""
        return "segmentation"

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the image processor's transform, whose size is fixed."""
        return {IMAGE: self._images}

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the whole network as the image tower."""
        return {IMAGE: network}

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        from transformers import SamVisionConfig

        from ..hugging_face.networks import build

        network: nn.Module = build(SamVisionConfig(**_SIZES[self._variants[name]]))
        return network

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network with the converted tensors of its file."""
        return load_state(self.build(name), state)

    def convert(self, name: str, state: StateDict) -> StateDict:
        """Return the tensors of the image encoder under the library's names."""
        renamed = {_library_name(key): tensor for key, tensor in state.items()}
        return {key: tensor for key, tensor in renamed.items() if key.startswith(_ENCODER)}


def _library_name(key: str) -> str:
    if key.startswith("image_encoder."):
        for pattern, replacement in _LIBRARY_NAMES.items():
            key = re.sub(pattern, replacement, key)
    return key


def _open_processor() -> Any:
    from transformers import SamImageProcessor

    return SamImageProcessor()
