"""PyTorch's devices: their cores, memory and streams, and the arithmetic of operations."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import Any

import torch

from ...allocator import collect_garbage, release_freed_memory
from ...host import core_count as host_core_count
from ...host import host_memory
from ..base import OutOfDeviceMemoryError
from ..compute_options import Precision
from ..device_faults import is_out_of_memory
from ..staging import Memory, plain_memory
from .device_names import VisibleDevice, find_device
from .recorded import Outputs, Recording
from .shared_mode import SharedMode
from .streams import DeviceStreams, HostStreams, QueuedStreams

_EXACT = "ieee"


def use_exact_float32() -> None:
    """Make float32 exact: by default PyTorch lets cuDNN round convolutions to TF32."""
    torch.backends.fp32_precision = _EXACT  # type: ignore[attr-defined]
    _set_product_precision(_EXACT)


def _set_product_precision(how: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = how  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = how


_PRODUCTS = SharedMode(_set_product_precision, _EXACT)
"""How float32 is rounded in products: for the whole process, when an operation is queued."""

_AUTOCAST = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT16: torch.float16}


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Queue operations in this precision; wait for other threads that queue theirs in another."""
    with _PRODUCTS.use("tf32" if precision is Precision.TF32 else _EXACT):
        if precision not in _AUTOCAST:
            yield
            return
        with torch.autocast(device.type, dtype=_AUTOCAST[precision]):
            yield


@cache
def core_count() -> int:
    """Return how many cores operations use by default: PyTorch's number, within a quota."""
    return min(torch.get_num_threads(), host_core_count())


def use_cores(count: int) -> None:
    """Set how many cores the calling thread's operations use; other threads keep their number.

    PyTorch gives every thread all cores, so threads that decode in parallel would compete. A thread
    that sets no number gets the last number set by any thread, so every pool must set its own: sums
    over a different number of cores differ in their last bits.
    """
    # At its first look at the number, a thread takes the last one that any thread set: without
    # this look, that would be in its first operation, over the number that is set here.
    torch.get_num_threads()
    torch.set_num_threads(count)


def used_cores() -> int:
    """Return how many cores the calling thread's operations use."""
    return torch.get_num_threads()


def default_device() -> str:
    """Return the device that the server uses by default."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> str:
    """Return PyTorch's name of a device that can be used here; else raise PreconditionError."""
    return find_device(name, visible_devices(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible_devices() -> list[VisibleDevice]:
    """Return the GPUs, and instances of GPUs, that this process may use."""
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        uuid = str(getattr(properties, "uuid", ""))
        kind = "MIG" if " MIG " in properties.name else "GPU"
        uuid = uuid if not uuid or uuid.startswith(("GPU-", "MIG-")) else f"{kind}-{uuid}"
        found.append(VisibleDevice(f"cuda:{index}", properties.name, uuid))
    return found


def device_memory_bytes(device: str) -> int:
    """Return the device's total memory, bytes."""
    return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)


def free_memory_bytes(device: str) -> int:
    """Return what an allocation on the device can get now, bytes."""
    if device == "cpu":
        return host_memory().available_bytes
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(free + own_memory_bytes(device) - torch.cuda.memory_allocated(device))


def own_memory_bytes(device: str) -> int:
    """Return the memory of a GPU that PyTorch holds in this process, free parts included, bytes."""
    return int(torch.cuda.memory_reserved(device))


def reclaim_memory(device: str) -> None:
    """Return memory that PyTorch or the C library keeps for reuse, in up to 0.1 s."""
    if device == "cpu":
        release_freed_memory()
    else:
        torch.cuda.empty_cache()


class PeakMeter:
    """Measures how much more memory of a GPU is allocated for a while; on a CPU it can't."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._before = 0

    def begin(self) -> None:
        """Begin a measurement."""
        if self._device != "cpu":
            self._before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)

    def peak_bytes(self) -> int:
        """Return the most since `begin`; 0 on a CPU."""
        if self._device == "cpu":
            return 0
        return max(0, int(torch.cuda.max_memory_allocated(self._device)) - self._before)


def device_memory_used_bytes(device: str) -> int:
    """Return the memory of the device that all processes use together, bytes."""
    free, total = torch.cuda.mem_get_info(torch.device(device))
    return total - free


def device_answers(device: str) -> bool:
    """Tell whether this process can still compute on the device."""
    try:
        return bool(torch.ones(1, device=device).add(1).item() == 2)
    except RuntimeError as error:
        return isinstance(error, torch.OutOfMemoryError)


_FAST_FLOAT64 = frozenset({(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)})
"""Compute capabilities with half as many float64 as float32 operations per second (P100, V100,
A100, H100 and H200, B200); others have a 32nd or a 64th (CUDA C++ Programming Guide, Throughput of
Native Arithmetic Instructions)."""


def has_fast_float64(capability: tuple[int, int]) -> bool:
    """Return whether a GPU of a compute capability multiplies in float64 at half of its speed."""
    return capability in _FAST_FLOAT64


def compute_capability(device: str) -> tuple[int, int]:
    """Return the compute capability of a GPU."""
    return torch.cuda.get_device_capability(torch.device(device))


@contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Raise OutOfDeviceMemoryError in place of each of PyTorch's out-of-memory errors."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfDeviceMemoryError(str(error)) from error


class CudaStream:
    """A stream of a GPU: a `streams.Stream`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return memory of the device that is this stream's until it is freed."""
        with self.use():
            return torch.empty(tuple(shape), dtype=dtype, device=self._device)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queue a copy; from or to pinned memory it runs beside other streams."""
        with self.use():
            target.copy_(source, non_blocking=True)

    def record(self) -> Any:
        """Return the event after all that is queued now."""
        # A thread that waits for it leaves its core to threads that decode.
        event: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def wait(self, event: Any) -> None:
        """Let what is queued from now on begin after an event of another stream."""
        self._stream.wait_event(event)

    def use(self) -> AbstractContextManager[Any]:
        """Queue all operations of this thread here while the context lasts."""
        return torch.cuda.stream(self._stream)


class _Lane(threading.local):
    """The streams of each thread that runs passes, by device."""

    def __init__(self) -> None:
        self.streams: dict[torch.device, DeviceStreams] = {}


_LANE = _Lane()


def lane_streams(device: torch.device) -> DeviceStreams:
    """Return the calling thread's streams of a device, opened on first use."""
    if device not in _LANE.streams:
        on_gpu = device.type == "cuda"
        opened = QueuedStreams(partial(CudaStream, device)) if on_gpu else HostStreams()
        _LANE.streams[device] = opened
    return _LANE.streams[device]


def staging_memory(device: str) -> Callable[[int], Memory]:
    """Return what allocates memory from which copies to this device can run beside passes."""
    return _pinned_memory if torch.device(device).type == "cuda" else plain_memory


def _pinned_memory(size_bytes: int) -> Memory:
    memory: Memory = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True).numpy()
    return memory


def release_staging(device: str) -> None:
    """Return staging memory that was freed to the system; PyTorch keeps what was pinned."""
    # Older PyTorch has no call for it, and keeps it.
    empty = getattr(torch.accelerator, "empty_host_cache", None)
    if torch.device(device).type == "cuda" and empty is not None:
        empty()


def wait_for_weights(device: torch.device) -> None:
    """Wait until copies to the device are done, which the streams of lanes don't wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class CudaGraphs:
    """Records operations of a GPU as CUDA graphs: a `recorded.Recorder`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def record(self, work: Callable[[], Outputs]) -> Recording:
        """Record what some work queues; it runs once before, as first calls allocate and load."""
        stream: Any = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            work()
        stream.synchronize()
        graph: Any = torch.cuda.CUDAGraph()
        # Other threads go on allocating and copying meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = work()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return Recording(outputs, graph.replay)

    def mark(self) -> Any:
        """Return the event after all that the calling thread has queued."""
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait(self, mark: Any) -> None:
        """Let what the calling thread queues from now on begin after an event."""
        torch.cuda.current_stream(self._device).wait_event(mark)


def release_memory(device: torch.device) -> None:
    """Return the memory of unreferenced objects to the device or the system."""
    collect_garbage()
    reclaim_memory(str(device))
