"""Offloaded models: their weights wait in the host's memory, and are restored bit for bit.

A server on a CPU may be told to do so, too; the policy is the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models

from support.serving import TestServer
from thingsvision_client import Client, errors

MODULES = ["features.3", "features.12"]
SQUEEZENET_BYTES = 4 * 1_248_424
ROOM_FOR_ONE = SQUEEZENET_BYTES + SQUEEZENET_BYTES // 2


def squeezenet(seed: int) -> str:
    return f"torchvision/squeezenet1_0@random:{seed}"


def figure(server: TestServer, name: str, **labels: str) -> float:
    full_name = f"thingsvision_{name}"
    return server.running.metrics.registry.get_sample_value(full_name, labels) or 0.0


def loads(server: TestServer) -> dict[str, float]:
    """How often models came from their source and from the host's memory."""
    return {kind: figure(server, "model_loads_total", result=kind) for kind in ("ok", "host")}


def kept_bytes(server: TestServer) -> float:
    return figure(server, "residency_host_used_bytes")


def visit(client: Client, *seeds: int) -> None:
    for seed in seeds:
        client.load(squeezenet(seed))


def test_features_of_a_restored_model_are_bit_identical(
    start_server: Callable[..., Any], photos: list[Path]
) -> None:
    budgets = {"device_memory": ROOM_FOR_ONE, "host_memory": 2 * SQUEEZENET_BYTES}
    with start_server(**budgets) as server, Client(server.address) as client:

        def extract(seed: int) -> Any:
            return client.extract(squeezenet(seed), photos[:3], MODULES, batch_size=3)

        first = [extract(seed) for seed in (0, 1)]
        assert loads(server) == {"ok": 2, "host": 0}
        assert kept_bytes(server) == SQUEEZENET_BYTES
        for turn in range(1, 3):
            for seed in (0, 1):
                again = extract(seed)
                assert again.provenance == first[seed].provenance
                for module in MODULES:
                    found, expected = again.features[module], first[seed].features[module]
                    np.testing.assert_array_equal(found, expected)
            assert loads(server) == {"ok": 2, "host": 2 * turn}
        assert figure(server, "residency_host_capacity_bytes") == 2 * SQUEEZENET_BYTES
        assert figure(server, "residency_used_bytes") == SQUEEZENET_BYTES
        assert figure(server, "model_evictions_total", reason="room") == 5


def test_the_model_offloaded_first_is_evicted_first(start_server: Callable[..., Any]) -> None:
    budgets = {"device_memory": ROOM_FOR_ONE, "host_memory": 2 * SQUEEZENET_BYTES}
    with start_server(**budgets) as server, Client(server.address) as client:
        visit(client, 0, 1, 2, 3)  # 0, 1 and 2 left, in this order
        assert kept_bytes(server) == 2 * SQUEEZENET_BYTES
        visit(client, 1)
        assert loads(server) == {"ok": 4, "host": 1}
        visit(client, 0)
        assert loads(server) == {"ok": 5, "host": 1}
        assert kept_bytes(server) == 2 * SQUEEZENET_BYTES


@pytest.mark.parametrize("budget_bytes", [None, 0, SQUEEZENET_BYTES - 1])
def test_without_room_nothing_is_kept(
    start_server: Callable[..., Any], budget_bytes: int | None
) -> None:
    budgets = {"device_memory": ROOM_FOR_ONE, "host_memory": budget_bytes}
    with start_server(**budgets) as server, Client(server.address) as client:
        visit(client, 0, 1, 0)
        assert loads(server) == {"ok": 3, "host": 0}
        assert kept_bytes(server) == 0


def test_an_unload_frees_both(start_server: Callable[..., Any]) -> None:
    budgets = {"device_memory": ROOM_FOR_ONE, "host_memory": 2 * SQUEEZENET_BYTES}
    with start_server(**budgets) as server, Client(server.address) as client:
        visit(client, 0, 1)
        assert client.unload(squeezenet(1)) == SQUEEZENET_BYTES
        assert kept_bytes(server) == SQUEEZENET_BYTES  # of the other
        assert client.unload(squeezenet(0)) == 0, "it held nothing on the device"
        assert kept_bytes(server) == 0
        with pytest.raises(errors.NotResidentError):
            client.unload(squeezenet(0))
        visit(client, 0, 1)
        assert loads(server) == {"ok": 4, "host": 0}


def test_a_deleted_upload_is_kept_nowhere(start_server: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(models.squeezenet1_0().state_dict(), path)
    budgets = {"device_memory": ROOM_FOR_ONE, "host_memory": 2 * SQUEEZENET_BYTES}
    with start_server(**budgets) as server, Client(server.address) as client:
        sha256 = client.upload_weights(path)
        model = f"torchvision/squeezenet1_0@sha256:{sha256}"
        client.load(model)
        visit(client, 0)
        assert kept_bytes(server) == SQUEEZENET_BYTES
        client.load(model)
        assert loads(server) == {"ok": 2, "host": 1}
        visit(client, 0)
        client.unload(squeezenet(0))
        client.delete_upload(sha256)
        assert kept_bytes(server) == 0
        with pytest.raises(errors.UnknownWeightsError):
            client.load(model)


def test_an_unload_of_a_model_that_is_being_offloaded_frees_it(
    start_server: Callable[..., Any],
) -> None:
    budgets = {"device_memory": ROOM_FOR_ONE, "host_memory": 2 * SQUEEZENET_BYTES}
    with start_server(**budgets) as server, Client(server.address) as client:
        visit(client, 0)
        residency = server.running.residency
        (resident,) = residency.residents()
        assert resident.ready_model

        async def drop_while_it_leaves() -> None:
            """The lanes are busy: it can't have left before they are free."""
            lanes = resident.ready_model.lanes
            turns = [lanes.run(lambda: done.wait(60)) for _ in range(lanes.width)]
            evicting = residency.memory.evict(resident, "room")
            while resident.key not in residency.host:
                await asyncio.sleep(0.005)
            assert residency.host.used_bytes == SQUEEZENET_BYTES
            assert await residency.unload(resident.key) == 0
            done.set()
            await asyncio.gather(evicting, *turns)

        done = threading.Event()
        asyncio.run_coroutine_threadsafe(drop_while_it_leaves(), server.loop).result(60)
        assert kept_bytes(server) == 0
        assert figure(server, "residency_used_bytes") == 0
        visit(client, 0)
        assert loads(server) == {"ok": 2, "host": 0}


def test_a_thrashing_crowd_gets_right_features(
    start_server: Callable[..., Any], photos: list[Path]
) -> None:
    """Four clients ask for five models with room for one and a half, and host memory for two."""
    budgets = {"device_memory": ROOM_FOR_ONE, "host_memory": 2 * SQUEEZENET_BYTES}
    with start_server(**budgets) as server:

        def ask(number: int) -> dict[int, Any]:
            with Client(server.address) as client:
                order = [(number + turn) % 5 for turn in range(5)]
                return {
                    seed: client.extract(squeezenet(seed), photos[:2], MODULES[1], batch_size=2)
                    for seed in order
                }

        with ThreadPoolExecutor(4) as clients:
            found = list(clients.map(ask, range(4)))
        with Client(server.address) as client:
            # In step with each other, the clients may want each model only after it was dropped.
            for seed in (0, 1, 0):
                client.extract(squeezenet(seed), photos[:2], MODULES[1], batch_size=2)
        for seed in range(5):
            for other in found[1:]:
                np.testing.assert_array_equal(
                    other[seed].features[MODULES[1]], found[0][seed].features[MODULES[1]]
                )
        counts = loads(server)
        assert counts["host"] > 0
        assert sum(counts.values()) == figure(server, "model_evictions_total", reason="room") + len(
            server.running.residency.residents()
        )
        assert kept_bytes(server) <= 2 * SQUEEZENET_BYTES
