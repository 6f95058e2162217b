"""Batches of a user's own dataset, whose items are inputs of a model, or images in memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ..arrays import as_array
from ..images.pictures import is_picture


def is_indexed(dataset: Any) -> bool:
    """Whether an object has a length and items by number."""
    is_text = isinstance(dataset, (str, bytes))
    return not is_text and hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")


def stack_items(items: Sequence[Any]) -> Any:
    """Return a batch of items, as torch's DataLoader does: of tuples, a tuple of batches.

    Tensors of PyTorch and TensorFlow give a tensor, images in memory a list, everything else an
    array.
    """
    first = items[0]
    if isinstance(first, (tuple, list)) and len(first):
        return tuple(stack_items(part) for part in zip(*items, strict=True))
    if is_picture(first):
        return list(items)
    for library, kind in (("torch", "Tensor"), ("tensorflow", "Tensor")):
        module = sys.modules.get(library)
        if module is not None and isinstance(first, getattr(module, kind)):
            return module.stack(list(items))
    import numpy as np

    return np.stack([as_array(item) for item in items])
