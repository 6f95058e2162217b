"""Megabytes of features per second on both ways, and the gateway's processor time for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from statistics import median
from typing import Any

from thingsvision_client import Client, Model

from ..cases import StreamCase
from ..networks import EARLY_INPUT, EARLY_MODULE, EARLY_OUTPUT, make_weights, weights_folder
from ..stream.inputs import tensor_inputs
from .latency import measure_idle_cpu
from .ways import Size, Ways, cpu_seconds


@dataclass
class _Figures:
    rates: list[float] = field(default_factory=list)
    """MB/s of each round."""
    cpu_per_gb: list[float] = field(default_factory=list)
    """The gateway's seconds per GB of each round."""


def measure_streams(ways: Ways, size: Size) -> Iterator[dict[str, Any]]:
    """Yield the row of one stream of large activations of a network that computes next to none."""
    program = weights_folder() / make_weights("own", "early", weights_folder()).file
    idle = measure_idle_cpu(ways)
    figures = {name: _Figures() for name in ways.by_name}
    with ExitStack() as stack:
        clients = {n: stack.enter_context(way.client()) for n, way in ways.by_name.items()}
        models = {name: client.upload_model(program) for name, client in clients.items()}
        for name, client in clients.items():
            _stream(client, models[name], 16)
        for _ in range(size.rounds):
            for name, client in clients.items():
                before, began = cpu_seconds(ways.gateway), time.monotonic()
                received = _stream(client, models[name], size.megabytes)
                seconds = time.monotonic() - began
                used = cpu_seconds(ways.gateway) - before - idle * seconds
                figures[name].rates.append(received / 1e6 / seconds)
                figures[name].cpu_per_gb.append(used / (received / 1e9))
    pairs = zip(figures["gateway"].rates, figures["direct"].rates, strict=True)
    yield {
        "row": "a stream",
        "megabytes": size.megabytes,
        **{f"{name}_mb_per_s": median(one.rates) for name, one in figures.items()},
        "ratio": median(gateway / direct for gateway, direct in pairs),
        "gateway_cpu_s_per_gb": median(figures["gateway"].cpu_per_gb),
        "mb_per_s_per_core_of_gateway": 1000 / median(figures["gateway"].cpu_per_gb),
    }


def _stream(client: Client, model: Model, megabytes: int) -> int:
    """Return how many bytes of features were received."""
    case = StreamCase(
        model=str(model),
        module=EARLY_MODULE,
        count=max(1, round(megabytes * 1e6 / (4 * prod(EARLY_OUTPUT)))),
        input_shape=list(EARLY_INPUT),
        shape=list(EARLY_OUTPUT),
        address="",
        weights_dir="",
        device="cpu",
    )
    parts = client.stream(model, tensor_inputs(case), EARLY_MODULE)
    received = sum(rows[EARLY_MODULE].nbytes for _, rows in parts)
    assert received == case.byte_count
    return received
