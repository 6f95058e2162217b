"""Tells what a network's own code raises in a pass from faults of this server.

A network's fault is that of its author or of its inputs, and its user is told; hooks and modes of
this package run inside the pass too, and what they raise stays an internal error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from ...errors import DeviceMemoryError, ThingsvisionError
from ..base import NetworkError, OutOfDeviceMemoryError
from ..device_faults import is_out_of_memory

_SERVER = Path(__file__).parents[2]
_OWN_CODE = tuple(str(_SERVER / room) for room in ("backends", "engine"))

_TRANSPARENT = frozenset({"__torch_function__", "max_pool2d"})
"""Functions of this package that call PyTorch's for the network, with the network's arguments."""

_OF_DEVICE = ("CUDA", "cuDNN", "CUBLAS", "CUDNN", "NVRTC", "DefaultCPUAllocator")
"""Words of errors about the device, its driver or its memory."""


def call_network(network: nn.Module, batch: torch.Tensor) -> Any:
    """Return a network's output; raise NetworkError for what its own code raises."""
    try:
        return network(batch)
    # Code of users may raise anything.
    except Exception as error:
        if not _is_of_network(error):
            raise
        raise NetworkError(reason_of(error), tuple(batch.shape[1:])) from error


@contextmanager
def refuse_spoiled_inputs(pieces: Sequence[torch.Tensor]) -> Iterator[None]:
    """Raise DeviceMemoryError if memory ran out after the network changed its own inputs.

    A smaller batch of the same inputs would give wrong features.
    """
    versions = [_version(piece) for piece in pieces]
    try:
        yield
    except OutOfDeviceMemoryError as error:
        if versions == [_version(piece) for piece in pieces]:
            raise
        count, reason = sum(map(len, pieces)), str(error).partition("\n")[0]
        raise DeviceMemoryError(
            f"the device has no room for the activations of {count} images, and the network "
            f"changes its inputs, so that the batch can't be halved; ask for a smaller batch_size: "
            f"{reason}"
        ) from error


def _version(tensor: torch.Tensor) -> int:
    """Return the number of PyTorch's changes to a tensor in place."""
    return int(tensor._version)  # noqa: SLF001 - documented, without another name


def reason_of(error: Exception) -> str:
    """Return the first line of what was raised, with its type if the text alone says little."""
    text, kind = str(error).strip().partition("\n")[0], type(error).__name__
    return text if text and isinstance(error, (RuntimeError, ValueError)) else f"{kind}: {text}"


def _is_of_network(error: Exception) -> bool:
    if isinstance(error, ThingsvisionError) or is_out_of_memory(error):
        return False
    is_of_device = isinstance(error, RuntimeError) and any(w in str(error) for w in _OF_DEVICE)
    return not is_of_device and not _is_from_here(error.__traceback__)


def _is_from_here(traceback: TracebackType | None) -> bool:
    """Tell whether this package's code ran inside the network when it failed."""
    frame = traceback.tb_next if traceback else None  # the first one is the call of the network
    while frame is not None:
        code = frame.tb_frame.f_code
        if code.co_filename.startswith(_OWN_CODE) and code.co_name not in _TRANSPARENT:
            return True
        frame = frame.tb_next
    return False
