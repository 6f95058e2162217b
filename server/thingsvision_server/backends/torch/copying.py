"""Copies tensors on the caller's core alone; knows no network.

PyTorch shares every larger copy out among its threads. Where others use the cores too, waiting for
them takes twenty times as long as the copy: a network has hundreds of tensors.
"""

from __future__ import annotations

import numpy as np
import torch


def copy_in_thread(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous tensor of the CPU in memory of its own, with the same bits."""
    source = tensor.detach().contiguous()
    copy = torch.empty_like(source)
    np.copyto(_bytes(copy), _bytes(source))
    return copy


def _bytes(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    flat: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    flat = tensor.reshape(-1).view(torch.uint8).numpy()
    return flat
