"""Five models in a budget for two: measured bytes stay within it, and evicted bits come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from support.device_figures import metric
from support.serving import TestServer
from thingsvision_client import Client
from thingsvision_server.errors import PreconditionError
from thingsvision_server.memory_shares import model_budget
from thingsvision_server.settings import Settings

pytestmark = pytest.mark.gpu

SQUEEZENET_BYTES = 4 * 1_248_424
BUDGET_BYTES = 2 * SQUEEZENET_BYTES + SQUEEZENET_BYTES // 2
ROUNDING_BYTES = 512 * 200
"""A GPU's memory is given out in blocks; a network has about 50 tensors."""
MODULE = "features.12"
SEEDS, FIRST = range(5), 9


def squeezenet(seed: int) -> str:
    return f"torchvision/squeezenet1_0@random:{seed}"


def extract(client: Client, seed: int, tensors: Any) -> Any:
    return client.extract(squeezenet(seed), tensors[:4], MODULE, batch_size=4).features[MODULE]


def test_five_models_stay_within_a_budget_for_two(
    start_server: Callable[..., Any],
    held_bytes: Callable[[TestServer], Any],
    tensors: Any,
    record_property: Callable[[str, object], None],
) -> None:
    most = 0
    with (
        start_server(device_memory=BUDGET_BYTES, host_memory=0) as server,
        Client(server.address) as client,
    ):
        extract(client, FIRST, tensors)
        client.unload(squeezenet(FIRST))
        held = held_bytes(server)
        for seed in [*SEEDS, *SEEDS]:
            client.load(squeezenet(seed))
            held.look()
            most = max(most, held.count())
            counted = server.running.residency.used_bytes
            assert abs(held.count() - counted) <= ROUNDING_BYTES
            extract(client, seed, tensors)
        assert SQUEEZENET_BYTES < most <= BUDGET_BYTES + ROUNDING_BYTES
        assert metric(server, "model_evictions_total", reason="room") == 2 * len(SEEDS) - 2
        for resident in client.residency().models:
            client.unload(resident.model)
        assert held.count() <= ROUNDING_BYTES
    record_property("most_held_bytes", most)


def test_evicted_models_come_back_from_the_host_with_the_same_bits(
    start_server: Callable[..., Any], tensors: Any
) -> None:
    budgets = {"device_memory": BUDGET_BYTES, "host_memory": 5 * SQUEEZENET_BYTES}
    with start_server(**budgets) as server, Client(server.address) as client:
        first = [extract(client, seed, tensors) for seed in SEEDS]
        again = [extract(client, seed, tensors) for seed in SEEDS]
        assert metric(server, "model_loads_total", result="ok") == len(SEEDS)
        assert metric(server, "model_loads_total", result="host") == len(SEEDS)
        assert metric(server, "residency_host_used_bytes") == 3 * SQUEEZENET_BYTES
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)
        assert not np.array_equal(first[0], first[1])


def test_a_budget_above_the_devices_memory_is_refused(device: str) -> None:
    """Before the port opens: the server's parts are made first."""
    with pytest.raises(PreconditionError, match="--device-memory must be at most") as caught:
        model_budget(Settings(device_memory=2**50), device)
    assert (device in str(caught.value)) is device.startswith("cuda")
