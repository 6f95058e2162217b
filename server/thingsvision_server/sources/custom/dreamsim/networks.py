"""The networks of DreamSim: vision transformers whose features are concatenated.

Fu et al. 2023, "DreamSim: Learning New Dimensions of Human Visual Similarity using Synthetic
Data". Module names have the same endings as in the package `dreamsim`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

_WIDTH = 768
_PROJECTED = 512

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class BackboneKind:
    """The settings in which the backbones differ; all are ViT-B."""

    architecture: str
    activation: str
    mean_and_std: tuple[tuple[float, ...], tuple[float, ...]]
    is_clip: bool
    """Whether tokens are normalised before the first block, and features are projected."""


BACKBONES: Mapping[str, BackboneKind] = {
    "clip_vitb16": BackboneKind("vit_base_patch16_224", "quick_gelu", _OPENAI, is_clip=True),
    "clip_vitb32": BackboneKind("vit_base_patch32_224", "quick_gelu", _OPENAI, is_clip=True),
    "dino_vitb16": BackboneKind("vit_base_patch16_224", "gelu", _IMAGENET, is_clip=False),
    "open_clip_vitb16": BackboneKind("vit_base_patch16_224", "gelu", _OPENAI, is_clip=True),
    "open_clip_vitb32": BackboneKind("vit_base_patch32_224", "gelu", _OPENAI, is_clip=True),
}


VARIANTS: Mapping[str, Sequence[str]] = {
    "clip_vitb32": ("clip_vitb32",),
    "dino_vitb16": ("dino_vitb16",),
    "ensemble": ("dino_vitb16", "clip_vitb16", "open_clip_vitb16"),
    "open_clip_vitb32": ("open_clip_vitb32",),
}
"""The backbones of each published network, in the order of their features."""


class Backbone(nn.Module):
    """One vision transformer; it normalises images of values 0..1 itself."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, kind: BackboneKind) -> None:
        super().__init__()
        self.model = _transformer(kind)
        projection = torch.randn(_WIDTH, _PROJECTED) * _WIDTH**-0.5 if kind.is_clip else None
        self.proj = None if projection is None else nn.Parameter(projection)
        mean, std = (torch.tensor(part).view(3, 1, 1) for part in kind.mean_and_std)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features: [N, 512] for CLIP (projected), [N, 768] for DINO."""
        features: torch.Tensor = self.model((images - self.mean) / self.std)
        return features if self.proj is None else features @ self.proj


def _transformer(kind: BackboneKind) -> nn.Module:
    """Return a ViT that outputs its class token, for DINO without the final normalisation."""
    import timm

    norm = partial(nn.LayerNorm, eps=1e-5 if kind.is_clip else 1e-6)
    network: nn.Module = timm.create_model(
        kind.architecture,
        num_classes=0,
        act_layer=kind.activation,
        norm_layer=norm,
        final_norm=kind.is_clip,
    )
    if kind.is_clip:
        # timm's own option, `pre_norm`, drops the bias of the patch embedding; the files have it.
        network.add_module("norm_pre", norm(_WIDTH))
    return network


class DreamSim(nn.Module):
    """Parallel backbones; `mlp` outputs the embedding, not normalised."""

    def __init__(self, backbones: Sequence[str]) -> None:
        super().__init__()
        self.extractor_list = nn.ModuleList(Backbone(BACKBONES[name]) for name in backbones)
        self.mlp = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, [N, width], of images [N, 3, 224, 224] with values 0..1."""
        features = [extractor(images) for extractor in self.extractor_list]
        embedding: torch.Tensor = self.mlp(torch.cat(features, dim=-1))
        return embedding
