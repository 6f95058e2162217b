"""Converts batches to a memory format of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...errors import InvalidRequestError
from ..compute_options import MemoryFormat

_NEEDS_CONTIGUOUS = "view size is not compatible with input tensor's size and stride"


def to_memory_format(batch: torch.Tensor, memory_format: MemoryFormat) -> torch.Tensor:
    """Return a contiguous batch (images x channels x height x width) in this memory format."""
    if memory_format is MemoryFormat.CONTIGUOUS:
        return batch
    # Not `to`: it leaves a single channel unchanged, which convolutions treat as contiguous.
    return torch.empty_like(batch, memory_format=torch.channels_last).copy_(batch)


@contextmanager
def translate_view_errors(memory_format: MemoryFormat) -> Iterator[None]:
    """Raise InvalidRequestError if a network's code assumes contiguous memory."""
    try:
        yield
    except RuntimeError as error:
        if memory_format is MemoryFormat.CONTIGUOUS or _NEEDS_CONTIGUOUS not in str(error):
            raise
        raise InvalidRequestError(
            f"`memory_format` must be contiguous for these modules, got {memory_format.value}: an "
            "operation of this network before them assumes contiguous memory",
            field="memory_format",
            subject=memory_format.value,
        ) from error
