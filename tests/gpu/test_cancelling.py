"""A cancelled stream stops the device: no pass begins after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.device_figures import LANES, metric, passes
from thingsvision_client import Client

pytestmark = pytest.mark.gpu

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.12"
BATCH = 4
READ_PARTS = 3


def test_a_cancelled_stream_ends_within_a_batch_for_each_lane(
    start_server: Callable[..., Any], lanes: Callable[[int], dict[str, int]], tensors: Any
) -> None:
    def endless() -> Iterator[tuple[str, Any]]:
        yield from ((str(number), tensors[number % len(tensors)]) for number in range(10**9))

    with start_server(**lanes(LANES)) as server, Client(server.address) as client:
        stream = client.stream(MODEL, endless(), MODULE, batch_size=BATCH)
        for _ in range(READ_PARTS):
            next(stream)
        assert passes(server) >= READ_PARTS
        stream.close()
        wait_until(lambda: metric(server, "queue_depth") == 0)
        at_cancel = passes(server)
        wait_until(lambda: not in_use(client))
        time.sleep(0.3)  # of a device that goes on, this would be many batches
        # What ran at that moment ends; nothing may begin.
        assert passes(server) - at_cancel <= LANES
        # And the next request has the device at once.
        client.extract(MODEL, tensors[:BATCH], MODULE, batch_size=BATCH)


def in_use(client: Client) -> int:
    return sum(model.lease_count for model in client.residency().models)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not stop"
        time.sleep(0.005)
