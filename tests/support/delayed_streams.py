"""A double of a GPU's streams and of its memory, which is as late and as forgetful as allowed.

Copies happen only when an event is waited for. Memory that nobody has written yet, or that was
given back, is NaN. So a wait that is missing gives NaN, or the values of another batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from thingsvision_server.backends.staging import Array, Memory, StagingPool, plain_memory, staging
from thingsvision_server.backends.torch.streams import DeviceStreams, QueuedStreams


@dataclass(frozen=True)
class DelayedEvent:
    """The moment after the first `count` pieces of a stream's work."""

    stream: DelayedStream
    count: int

    def synchronize(self) -> None:
        self.stream.work_off(self.count)


class DelayedStream:
    """A `streams.Stream` whose work waits until an event makes it happen.

    Operations of networks can't wait: they run when they are called, after all work queued before.
    """

    def __init__(self) -> None:
        self._work: deque[Callable[[], Any]] = deque()
        self._done_count = 0
        self._runs_operations = False

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        made = torch.empty(tuple(shape), dtype=dtype)
        forget(made.numpy())
        return made

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        # What comes after it in the stream can't change the source, but has already run.
        seen = source.clone() if self._runs_operations else without_lease(source)
        self._work.append(partial(_copy, without_lease(target), seen))

    def record(self) -> DelayedEvent:
        return DelayedEvent(self, self._done_count + len(self._work))

    def wait(self, event: DelayedEvent) -> None:
        self._work.append(event.synchronize)

    @contextmanager
    def use(self) -> Iterator[None]:
        self.work_off(self._done_count + len(self._work))
        self._runs_operations = True
        try:
            yield
        finally:
            self._runs_operations = False

    def work_off(self, count: int) -> None:
        """Do the first `count` pieces of all work that was ever queued here."""
        while self._done_count < count:
            self._done_count += 1
            self._work.popleft()()


class ForgetfulPool(StagingPool):
    """A pool in whose memory nothing is left of what was there before."""

    def __init__(self, limit_bytes: int) -> None:
        self._blocks: list[Memory] = []
        super().__init__(limit_bytes, self._allocate_block)

    def _allocate_block(self, size_bytes: int) -> Memory:
        self._blocks.append(plain_memory(size_bytes))
        return self._blocks[-1]

    def find_block(self, address: int) -> Memory | None:
        """Return the block's memory from an address on; None if it is in none."""
        for block in self._blocks:
            if 0 <= address - block.ctypes.data < block.nbytes:
                return block[address - block.ctypes.data :]
        return None

    def array(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
        lent = super().array(shape, dtype)
        forget(lent)
        return lent

    def give_back(self, memory: Memory) -> None:
        forget(memory.view(np.float32))
        super().give_back(memory)


class DelayedLanes:
    """Opens the double's three streams for each thread that runs passes."""

    def __init__(self) -> None:
        self._lane = threading.local()

    def __call__(self, _device: torch.device) -> DeviceStreams:
        if not hasattr(self._lane, "streams"):
            self._lane.streams = QueuedStreams(DelayedStream)
        streams: DeviceStreams = self._lane.streams
        return streams


@torch.inference_mode()
def _copy(target: torch.Tensor, source: torch.Tensor) -> None:
    target.copy_(source)


def without_lease(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that does not keep its memory lent, as a copy that a GPU does."""
    pool = staging()
    block = pool.find_block(tensor.data_ptr()) if isinstance(pool, ForgetfulPool) else None
    if block is None:
        return tensor
    memory = torch.from_numpy(block[: tensor.nbytes])
    return memory.view(tensor.dtype).view(tensor.shape)


def forget(values: Array) -> None:
    """Overwrite values with NaN, or another value that no test uses."""
    values.fill(np.nan if values.dtype.kind == "f" else np.iinfo(values.dtype).max)
