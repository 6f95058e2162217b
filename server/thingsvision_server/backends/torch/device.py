"""PyTorch's devices: cores, memory, and how operations compute there; knows no network."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from ...allocator import release_freed_memory
from ...errors import PreconditionError
from ..base import OutOfDeviceMemoryError
from ..compute_options import Precision


def use_exact_float32() -> None:
    """Have float32 mean float32: PyTorch lets cuDNN round convolutions to TF32 by default."""
    torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]
    _round_products("ieee")


def _round_products(how: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = how  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = how


_AUTOCAST = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT16: torch.float16}


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Have operations compute so; TF32 is a flag of the process, and a GPU has one thread."""
    if precision in _AUTOCAST:
        with torch.autocast(device.type, dtype=_AUTOCAST[precision]):
            yield
    elif precision is Precision.TF32:
        _round_products("tf32")
        try:
            yield
        finally:
            _round_products("ieee")
    else:
        yield


@cache
def core_count() -> int:
    """Return how many cores PyTorch uses for one operation, as it was before anyone changed it."""
    return torch.get_num_threads()


def use_cores(count: int) -> None:
    """Have the calling thread's operations use so many cores; other threads keep theirs.

    PyTorch gives every thread all cores: threads that decode side by side would then fight. A
    thread that names no number gets the one last named anywhere, so every pool names its own:
    sums over another number of cores differ in their last bits.
    """
    torch.set_num_threads(count)


def default_device() -> str:
    """Return the device that the server takes where none is named."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> str:
    """Return the name of a device that works here; raise PreconditionError for any other."""
    count = torch.cuda.device_count()
    usable = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    if name not in usable:
        raise PreconditionError(f"device {name!r} can't be used; here are: {', '.join(usable)}")
    return name


def device_memory_bytes(device: str) -> int:
    """Return the device's whole memory, bytes."""
    return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)


def device_memory_used_bytes(device: str) -> int:
    """Return the device's memory that all processes together use, bytes."""
    free, total = torch.cuda.mem_get_info(torch.device(device))
    return total - free


@contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Have each of PyTorch's errors of this kind be an OutOfDeviceMemoryError."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfDeviceMemoryError(str(error)) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfDeviceMemoryError(str(error)) from error


def release_memory(device: torch.device) -> None:
    """Have the device or the system take the memory of what nobody refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        release_freed_memory()
