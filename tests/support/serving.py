"""A real server in a thread of the test's process, on a port of its own."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from thingsvision_server.backends.tensorflow.model import TensorFlowRuntime
from thingsvision_server.backends.torch.device import core_count, use_cores
from thingsvision_server.settings import Settings
from thingsvision_server.sources import Sources
from thingsvision_server.sources.context import SourceContext
from thingsvision_server.sources.weights.folder import WeightsFolder
from thingsvision_server.wiring import RunningServer, start_server

_CHOSEN = {
    "port": 0,
    "metrics_port": 0,
    "device": "cpu",
    "allow_download": False,
    # Half the memory of this machine would be kept by each of several servers at a time.
    "device_memory": 2 * 2**30,
    "host_memory": 0,
    "warm_guests": False,  # most tests upload nothing
}


@dataclass(frozen=True)
class TestServer:
    """A server in a thread of this process, on a port of its own."""

    __test__ = False

    address: str
    running: RunningServer
    loop: asyncio.AbstractEventLoop

    def unload_idle(self, kept_bytes: int) -> None:
        """Unload models, the least recently used first, until the rest has so many bytes."""
        asyncio.run_coroutine_threadsafe(self._unload_idle(kept_bytes), self.loop).result(60)

    async def _unload_idle(self, kept_bytes: int) -> None:
        residency = self.running.residency
        for resident in reversed(residency.residents()):
            if residency.used_bytes <= kept_bytes:
                return
            if resident.evictable:
                await residency.unload(resident.key)


_running: list[TestServer] = []


def running_servers() -> Sequence[TestServer]:
    """Return the servers that run in this process now."""
    return tuple(_running)


def open_sources(weights_dir: Path, *, allow_download: bool = False) -> Sources:
    """Return the sources of a server over that folder of weights, without a server."""
    weights = WeightsFolder(weights_dir, allow_download=allow_download)
    return Sources(SourceContext(weights, TensorFlowRuntime(sys.executable)))


@cache
def _import_libraries() -> None:
    """Import what every server imports, and leave it out of collections of garbage from now on.

    A model that is unloaded has garbage collected: a quarter of a second in a process that holds
    all libraries, for each model of each test.
    """
    open_sources(Path(os.devnull)).open_all()
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


def use_a_lanes_cores() -> None:
    """Have this thread compute references on as many cores as each of a server's lanes has.

    A job's batches use them, but for its last batches: see `all_cores`.

    Sums over another number of cores differ in their last bits.
    """
    use_cores(max(1, core_count() // Settings().cpu_lanes))


@contextmanager
def all_cores() -> Iterator[None]:
    """Have this thread compute references as servers compute the only batch of a job."""
    use_cores(core_count())
    try:
        yield
    finally:
        use_a_lanes_cores()


@contextmanager
def serving(weights_dir: Path, **settings: Any) -> Iterator[TestServer]:
    """Run a real server in a thread; on leaving, it is drained and gone."""
    _import_libraries()
    chosen = _CHOSEN | settings
    ready: Any = threading.Event()
    state: dict[str, Any] = {}

    async def serve() -> None:
        stop = asyncio.Event()
        async with start_server(Settings(weights_dir=weights_dir, **chosen)) as server:
            state.update(server=server, loop=asyncio.get_running_loop(), stop=stop)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            state["error"] = error
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    ready.wait(60)
    if "error" in state:
        raise RuntimeError("the server did not start") from state["error"]
    server: RunningServer = state["server"]
    made = TestServer(server.addresses[0], server, state["loop"])
    _running.append(made)
    try:
        yield made
    finally:
        _running.remove(made)
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"
