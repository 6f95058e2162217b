"""Small files of weights, and their digests."""

from __future__ import annotations

import hashlib

import torch
from safetensors.torch import save

MIB = 1024 * 1024


def weights(mebibytes: float = 0.001, seed: int = 0) -> bytes:
    torch.manual_seed(seed)
    return bytes(save({"weight": torch.rand(int(mebibytes * MIB) // 4)}))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
