"""Models that nobody uses are evicted after `--idle-seconds`, and nobody notices but by time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.serving import TestServer, serving
from support.small_cluster import until
from thingsvision_client import Client
from thingsvision_server.settings import Settings

MODEL, OTHER = "torchvision/squeezenet1_1@random:0", "torchvision/squeezenet1_1@random:1"
MODULE = "features.12"
IDLE_SECONDS = 1.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with serving(
        tmp_path_factory.mktemp("weights"),
        idle_seconds=IDLE_SECONDS,
        lease_seconds=0.2,
        drain_seconds=1.0,
    ) as running:
        yield running


def held(client: Client) -> set[str]:
    return {str(one.model) for one in client.residency().models}


def evictions(server: TestServer, reason: str = "idle") -> float:
    name, sample = "thingsvision_model_evictions_total", server.running.metrics.registry
    return sample.get_sample_value(name, {"reason": reason}) or 0.0


def test_idle_models_go_and_pins_stay(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    client.pin(OTHER)
    first = client.extract(MODEL, photos[:2], MODULE)
    before = evictions(server)
    assert held(client) == {MODEL, OTHER}
    until(lambda: held(client) == {OTHER})
    until(lambda: evictions(server) == before + 1)  # forgotten first, then freed and counted
    # It comes back by itself, to the same bits.
    again = client.extract(MODEL, photos[:2], MODULE)
    np.testing.assert_array_equal(again.features[MODULE], first.features[MODULE])
    assert OTHER in held(client)
    client.pin(OTHER, False)
    until(lambda: held(client) == set())
    assert client.residency().devices[0].used_bytes == 0


def test_models_in_use_stay_and_paused_streams_lose_nothing(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    pictures = photos * 2
    # Their number is not known beforehand, as below: it decides on how many cores the last run.
    usual = client.extract(MODEL, iter(pictures), MODULE, batch_size=2)
    until(lambda: held(client) == set())
    go_on, found = threading.Event(), list[Any]()

    def paused() -> Iterator[Path]:
        yield from pictures[:2]
        assert go_on.wait(60)
        for path in pictures[2:]:
            time.sleep(0.3)  # more together than the seconds of idleness
            yield path

    def extract() -> None:
        with Client(server.address) as other:
            found.append(other.extract(MODEL, paused(), MODULE, batch_size=2))

    thread = threading.Thread(target=extract)
    thread.start()
    until(lambda: held(client) == {MODEL})
    until(lambda: held(client) == set())  # the stream waits for its client, and had given it back
    go_on.set()
    thread.join()
    np.testing.assert_array_equal(found[0].features[MODULE], usual.features[MODULE])


def test_seconds_may_change_while_the_server_runs(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    settings = Settings(idle_seconds=0, device="cpu")
    server.running.change(settings)
    try:
        client.extract(MODEL, photos[:1], MODULE)
        time.sleep(2 * IDLE_SECONDS + 1)
        assert held(client) == {MODEL}
    finally:
        server.running.change(settings.model_copy(update={"idle_seconds": 0.5}))
    until(lambda: held(client) == set())
