"""From the names and shapes of published self-supervised files to timm's and torchvision's.

Pure functions on state dicts. What a function does not know it leaves, for the network that is to
load it to list; no function knows a network.
"""

from __future__ import annotations

import re
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional

from ..weights.state_dicts import StateDict

_GRID = 16
"""Patches a side of DINOv2: 14 pixels each in an image of 224."""

_NAMES_OF_DINOV2 = (
    (re.compile(r"(blocks\.\d+\.mlp)\.w12\."), r"\1.fc1."),
    (re.compile(r"(blocks\.\d+\.mlp)\.w3\."), r"\1.fc2."),
)
_JOINT_OF_XCIT = re.compile(r"(cls_attn_blocks\.\d+\.attn)\.qkv\.(weight|bias)")


def vissl(state: StateDict) -> StateDict:
    """Convert the trunk of a VISSL checkpoint, or what THINGSvision made of one."""
    return {name.removeprefix("_feature_blocks."): tensor for name, tensor in state.items()}


def dino_resnet(state: StateDict) -> StateDict:
    """Leave out a classifier: DINO's own ResNet-50 has none and skips what it does not know."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def mae(state: StateDict) -> StateDict:
    """Leave out the decoder, which only the whole checkpoints have."""
    decoder = ("decoder_", "mask_token")
    return {name: tensor for name, tensor in state.items() if not name.startswith(decoder)}


def xcit(state: StateDict) -> StateDict:
    """Rename the embedding of positions; part queries, keys and values of the class attention."""
    converted: StateDict = {}
    for name, tensor in state.items():
        joint = _JOINT_OF_XCIT.fullmatch(name)
        if joint:
            parts = zip("qkv", tensor.chunk(3), strict=True)
            converted |= {f"{joint[1]}.{one}.{joint[2]}": part for one, part in parts}
        else:
            converted[name.replace("pos_embeder.", "pos_embed.", 1)] = tensor
    return converted


def dinov2(state: StateDict) -> StateDict:
    """Rename the gated layers of the giant; fit positions of 37 x 37 patches to 16 x 16."""
    converted: StateDict = {}
    for name, tensor in state.items():
        for pattern, replacement in _NAMES_OF_DINOV2:
            name = pattern.sub(replacement, name)
        converted[name] = _fitted(tensor) if name == "pos_embed" else tensor
    converted.pop("mask_token", None)
    return converted


def _fitted(positions: Tensor) -> Tensor:
    """Return positions [1, 1 + 16 x 16, width] as DINOv2 itself interpolates them for 224 pixels.

    It adds 0.1 to the number of patches, against rounding, and interpolates by that scale; timm
    would by the sizes, with a filter against aliasing.
    """
    side = isqrt(positions.shape[1] - 1) if positions.ndim == 3 else 0
    if positions.shape[1:2] != (1 + side**2,) or side in (0, _GRID):
        return positions
    grid = positions[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (_GRID + 0.1) / side
    fitted = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    patches = fitted.flatten(2).transpose(1, 2).to(positions.dtype)
    return torch.cat((positions[:, :1], patches), dim=1)
