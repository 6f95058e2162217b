"""Weights for the models that pages name, in the place of the trained ones: random, but real."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import open_clip
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from thingsvision_server.sources.custom.cornet.networks import cornet_r, cornet_s

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def _clip() -> nn.Module:
    network: nn.Module = open_clip.create_model("ViT-B-32-quickgelu", device="meta")
    return network


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "torchvision/alexnet.IMAGENET1K_V1": lambda: models.alexnet(weights=None),
    "torchvision/squeezenet1_0.IMAGENET1K_V1": lambda: models.squeezenet1_0(weights=None),
    "custom/cornet-r.imagenet": cornet_r,
    "custom/cornet-s.imagenet": cornet_s,
    "custom/clip/ViT-B-32.openai": _clip,
}
"""Networks, by the path where a server looks for their weights."""

_TRAINED = {"torchvision/squeezenet1_0.IMAGENET1K_V1": "squeezenet1_0-imagenet.pth"}
"""Networks whose trained weights are in the reference data, if it is installed."""

_DRAWN = 1_000_003
"""Values that are drawn, and repeated: no row of a matrix begins where another one does."""


def write_weights(folder: Path) -> None:
    """Write files of weights for all networks."""
    _write_dino(folder / "transformers" / "facebook" / "dinov2-base")
    shared = Path(os.environ.get("THINGSVISION_SHARED_DATA", SHARED))
    values = torch.randn(_DRAWN, generator=torch.Generator().manual_seed(0))
    for place, build in NETWORKS.items():
        path = folder / f"{place}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        trained = shared / _TRAINED.get(place, "none")
        if trained.is_file():
            save_file(torch.load(trained, map_location="cpu", weights_only=True), path)
            continue
        with torch.device("meta"):
            state = build().state_dict()
        save_file({key: _drawn(key, value, values) for key, value in state.items()}, path)


def _write_dino(folder: Path) -> None:
    """Write a checkpoint with the modules of the published one, but narrow ones."""
    config = transformers.Dinov2Config(
        hidden_size=32, num_attention_heads=2, image_size=518, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    crop = {"height": 224, "width": 224}
    processor = transformers.BitImageProcessor(size={"shortest_edge": 256}, crop_size=crop)
    processor.save_pretrained(folder)


def _drawn(key: str, like: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return random values, in half of the bytes, that keep the size of activations."""
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    if key.endswith("running_var"):
        values = values.abs() + 0.5
    else:
        fan = like[0].numel() if like.ndim > 1 else 4
        values = values * (2 / fan) ** 0.5
    repeated = values.half().repeat(-(-like.numel() // len(values)))
    return repeated[: like.numel()].reshape(like.shape).clone()
