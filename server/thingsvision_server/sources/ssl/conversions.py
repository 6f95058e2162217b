"""Converts the keys and shapes of published self-supervised files to timm's and torchvision's.

Pure functions on state dicts. Unknown keys are kept, so that the network lists them as unexpected.
"""

from __future__ import annotations

import re
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional

from ..catalogues.checkpoints import drop_keys, without_prefix
from ..weights.state_dicts import StateDict

_GRID = 16
"""Patches per side in DINOv2: 14 pixels each in an image of 224."""

_DINOV2_NAMES = (
    (re.compile(r"(blocks\.\d+\.mlp)\.w12\."), r"\1.fc1."),
    (re.compile(r"(blocks\.\d+\.mlp)\.w3\."), r"\1.fc2."),
)
_XCIT_QKV = re.compile(r"(cls_attn_blocks\.\d+\.attn)\.qkv\.(weight|bias)")


def vissl(state: StateDict) -> StateDict:
    """Convert the trunk of a VISSL checkpoint, or THINGSvision's conversion of one."""
    return without_prefix("_feature_blocks.")(state)


def dino_resnet(state: StateDict) -> StateDict:
    """Remove the classifier: DINO's own ResNet-50 has none, and ignores unexpected keys."""
    return drop_keys(state, "fc.")


def mae(state: StateDict) -> StateDict:
    """Remove the decoder, which only the full checkpoints have."""
    return drop_keys(state, "decoder_", "mask_token")


def xcit(state: StateDict) -> StateDict:
    """Rename the positional embedding; split queries, keys and values of the class attention."""
    converted: StateDict = {}
    for name, tensor in state.items():
        qkv = _XCIT_QKV.fullmatch(name)
        if qkv:
            parts = zip("qkv", tensor.chunk(3), strict=True)
            converted |= {f"{qkv[1]}.{letter}.{qkv[2]}": part for letter, part in parts}
        else:
            converted[name.replace("pos_embeder.", "pos_embed.", 1)] = tensor
    return converted


def dinov2(state: StateDict) -> StateDict:
    """Rename the giant's gated layers; resample the positional embedding, 37 x 37 to 16 x 16."""
    converted: StateDict = {}
    for name, tensor in state.items():
        for pattern, replacement in _DINOV2_NAMES:
            name = pattern.sub(replacement, name)
        converted[name] = _resample(tensor) if name == "pos_embed" else tensor
    converted.pop("mask_token", None)
    return converted


def _resample(positions: Tensor) -> Tensor:
    """Return positions [1, 1 + 16 x 16, width] as DINOv2 itself interpolates them for 224 pixels.

    DINOv2 adds 0.1 to the number of patches, against rounding, and interpolates by the resulting
    scale factor; timm would interpolate to a size, with antialiasing.
    """
    side = isqrt(positions.shape[1] - 1) if positions.ndim == 3 else 0
    if positions.shape[1:2] != (1 + side**2,) or side in (0, _GRID):
        return positions
    grid = positions[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (_GRID + 0.1) / side
    resampled = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    patches = resampled.flatten(2).transpose(1, 2).to(positions.dtype)
    return torch.cat((positions[:, :1], patches), dim=1)
