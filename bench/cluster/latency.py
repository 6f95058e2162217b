"""What the gateway adds to the time of a short call, and what such calls cost it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from thingsvision_client import Client

from .ways import Size, Ways, cpu_seconds

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.2"
_IDLE_SECONDS = 5.0


def measure_latency(ways: Ways, size: Size) -> Iterator[dict[str, Any]]:
    """Yield rows of short calls, made on both ways in turn, one at a time."""
    image = [sorted(ways.photos.iterdir())[0]]
    kinds: dict[str, Callable[[Client], object]] = {
        "a call without images": lambda client: client.residency("server"),
        "a warm image": lambda client: client.extract(MODEL, image, MODULE),
    }
    idle = measure_idle_cpu(ways)
    yield {"row": "gateway, idle", "cores": idle}
    with ExitStack() as stack:
        clients = {n: stack.enter_context(way.client()) for n, way in ways.by_name.items()}
        for name, call in kinds.items():
            for client in clients.values():
                for _ in range(5):
                    call(client)
            taken: dict[str, list[float]] = {way: [] for way in clients}
            for _ in range(size.calls):
                for way, client in clients.items():
                    began = time.perf_counter()
                    call(client)
                    taken[way].append(1000 * (time.perf_counter() - began))
            before, began = cpu_seconds(ways.gateway), time.monotonic()
            for _ in range(size.calls):
                call(clients["gateway"])
            used = cpu_seconds(ways.gateway) - before - idle * (time.monotonic() - began)
            yield (
                {"row": name, "calls": size.calls}
                | _percentiles(taken)
                | {"gateway_cpu_s_per_1000": 1000 * max(0.0, used) / size.calls}
            )


def measure_idle_cpu(ways: Ways) -> float:
    """Return how many cores the gateway uses when nobody calls, for its health checks mostly."""
    before = cpu_seconds(ways.gateway)
    time.sleep(_IDLE_SECONDS)
    return (cpu_seconds(ways.gateway) - before) / _IDLE_SECONDS


def _percentiles(taken: dict[str, list[float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for percent in (50, 95):
        times = {way: float(np.percentile(some, percent)) for way, some in taken.items()}
        found |= {f"{way}_p{percent}_ms": one for way, one in times.items()}
        found[f"added_p{percent}_ms"] = times["gateway"] - times["direct"]
    return found
