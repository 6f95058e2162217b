"""Lays batches out in memory for PyTorch; knows no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...errors import InvalidRequestError
from ..compute_options import MemoryFormat

_NEEDS_CONTIGUOUS = "view size is not compatible with input tensor's size and stride"


def to_memory_format(batch: torch.Tensor, memory_format: MemoryFormat) -> torch.Tensor:
    """Return images x channels x height x width, contiguous before, so in memory."""
    if memory_format is MemoryFormat.CONTIGUOUS:
        return batch
    # Not `to`: it leaves a single channel as it is, and convolutions take that for contiguous.
    return torch.empty_like(batch, memory_format=torch.channels_last).copy_(batch)


@contextmanager
def translate_view_errors(memory_format: MemoryFormat) -> Iterator[None]:
    """Raise InvalidRequestError where code of a network takes contiguous memory for granted."""
    try:
        yield
    except RuntimeError as error:
        if memory_format is MemoryFormat.CONTIGUOUS or _NEEDS_CONTIGUOUS not in str(error):
            raise
        raise InvalidRequestError(
            f"this network can't compute in {memory_format.value}: an operation on the way to "
            "these modules takes contiguous memory for granted; valid: contiguous",
            field="memory_format",
            subject=memory_format.value,
        ) from error
