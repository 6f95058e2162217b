"""PyTorch's devices: their cores, their memory, and the arithmetic of operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from ...allocator import collect_garbage, release_freed_memory
from ...errors import PreconditionError
from ..base import OutOfDeviceMemoryError
from ..compute_options import Precision


def use_exact_float32() -> None:
    """Make float32 exact: by default PyTorch lets cuDNN round convolutions to TF32."""
    torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]
    _set_product_precision("ieee")


def _set_product_precision(how: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = how  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = how


_AUTOCAST = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT16: torch.float16}


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute in this precision; TF32 is a flag of the process, safe as a GPU has one thread."""
    if precision in _AUTOCAST:
        with torch.autocast(device.type, dtype=_AUTOCAST[precision]):
            yield
    elif precision is Precision.TF32:
        _set_product_precision("tf32")
        try:
            yield
        finally:
            _set_product_precision("ieee")
    else:
        yield


@cache
def core_count() -> int:
    """Return how many cores PyTorch uses for one operation by default."""
    return torch.get_num_threads()


def use_cores(count: int) -> None:
    """Set how many cores the calling thread's operations use; other threads keep their number.

    PyTorch gives every thread all cores, so threads that decode in parallel would compete. A thread
    that sets no number gets the last number set by any thread, so every pool must set its own: sums
    over a different number of cores differ in their last bits.
    """
    torch.set_num_threads(count)


def default_device() -> str:
    """Return the device that the server uses by default."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> str:
    """Return the name if that device can be used here; else raise PreconditionError."""
    count = torch.cuda.device_count()
    usable = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    if name not in usable:
        raise PreconditionError(f"`device` must be one of {', '.join(usable)}, got {name!r}")
    return name


def device_memory_bytes(device: str) -> int:
    """Return the device's total memory, bytes."""
    return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)


def device_memory_used_bytes(device: str) -> int:
    """Return the memory of the device that all processes use together, bytes."""
    free, total = torch.cuda.mem_get_info(torch.device(device))
    return total - free


@contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Raise OutOfDeviceMemoryError in place of each of PyTorch's out-of-memory errors."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfDeviceMemoryError(str(error)) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfDeviceMemoryError(str(error)) from error


def release_memory(device: torch.device) -> None:
    """Return the memory of unreferenced objects to the device or the system."""
    collect_garbage()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        release_freed_memory()
