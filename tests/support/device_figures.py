"""What a server's device holds and does: bytes of networks, passes, and a lack of memory."""

from __future__ import annotations

import gc
import resource
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from thingsvision_server.allocator import release_freed_memory

from .arenas import FEW, limit_arenas
from .serving import TestServer

LANES = 2


def metric(server: TestServer, name: str, **labels: str) -> float:
    """Return a figure that the server publishes, 0 if it has none yet."""
    full_name = f"thingsvision_{name}"
    return server.running.metrics.registry.get_sample_value(full_name, labels) or 0.0


def passes(server: TestServer) -> float:
    """Return how many forward passes the server has run."""
    return metric(server, "batch_images_count")


class HeldBytes:
    """Measures the bytes that networks hold on the device, not what the server counts.

    On a GPU the allocator knows. On a CPU it is the parameters and buffers of all networks that
    were seen and are still alive.
    """

    def __init__(self, server: TestServer, device: str) -> None:
        """Call it after a first pass, for which libraries take memory that they keep."""
        self._server, self._device = server, torch.device(device)
        self._before = self._allocated() if self._device.type == "cuda" else 0
        self._seen: dict[int, weakref.ref[torch.Tensor]] = {}

    def look(self) -> None:
        """Remember the tensors of the models that are resident now."""
        for resident in self._server.running.residency.residents():
            assert resident.ready_model
            network = resident.ready_model.model.network
            for tensor in [*network.parameters(), *network.buffers()]:
                self._seen[id(tensor)] = weakref.ref(tensor)

    def count(self) -> int:
        """Return the bytes that are held now."""
        gc.collect()
        if self._device.type == "cuda":
            return self._allocated() - self._before
        alive = [one for ref in self._seen.values() if (one := ref()) is not None]
        return sum(one.nbytes for one in alive)

    def _allocated(self) -> int:
        torch.cuda.synchronize(self._device)
        return int(torch.cuda.memory_allocated(self._device))


@contextmanager
def no_more_than(device: str, more_bytes: int) -> Iterator[None]:
    """Let this process take so much more of the device's memory, and no more."""
    limited = _limited_gpu if device.startswith("cuda") else _limited_address_space
    with limited(device, more_bytes):
        yield


@contextmanager
def _limited_gpu(device: str, more_bytes: int) -> Iterator[None]:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    reserved = torch.cuda.memory_reserved(device)
    torch.cuda.set_per_process_memory_fraction((reserved + more_bytes) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@contextmanager
def _limited_address_space(_device: str, more_bytes: int) -> Iterator[None]:
    # A thread's first allocation would reserve 64 to 128 MB of the room for an arena of its own.
    limit_arenas(1)
    release_freed_memory()
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = psutil.Process().memory_info().vms + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        limit_arenas(FEW)
