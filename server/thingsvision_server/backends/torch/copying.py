"""Copies tensors in the calling thread only.

PyTorch splits every larger copy among its threads. When other programs use the cores too, waiting
for those threads takes twenty times as long as the copy, and a network has hundreds of tensors.
"""

from __future__ import annotations

import numpy as np
import torch


def copy_in_thread(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous copy of a CPU tensor, bit-identical, in memory of its own."""
    source = tensor.detach().contiguous()
    copy = torch.empty_like(source)
    np.copyto(_bytes(copy), _bytes(source))
    return copy


def _bytes(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    flat: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    flat = tensor.reshape(-1).view(torch.uint8).numpy()
    return flat
