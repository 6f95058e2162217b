"""A device without room: the batch is halved; and load after load leaves the memory as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.closeness import assert_close
from support.device_figures import no_more_than, passes
from support.serving import TestServer
from thingsvision_client import Client, PreprocessingOverrides

pytestmark = pytest.mark.gpu

# A network of 5 MB whose first layer puts out 13 MB for an image of this size.
MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.12"
LARGE = PreprocessingOverrides(resize=448, crop=448)
FIRST_LAYER_BYTES = 4 * 64 * 223 * 223
BATCH = 16


def test_a_batch_without_room_is_halved(
    start_server: Callable[..., Any], device: str, photographs: list[Path]
) -> None:
    files = [photographs[number % len(photographs)].read_bytes() for number in range(BATCH)]
    images = [(str(number), file) for number, file in enumerate(files)]

    def extract(batch_size: int) -> Any:
        ask = {"batch_size": batch_size, "preprocessing": LARGE}
        return client.extract(MODEL, images, MODULE, **ask)

    with (
        start_server(max_batch=BATCH, max_batch_bytes=2**30) as server,
        Client(server.address) as client,
    ):
        expected = extract(4).features[MODULE]
        extract(BATCH)  # starts every thread that it needs, whose stacks would take of the room
        before = passes(server)
        told = pytest.warns(UserWarning, match="no room for batches of 16")
        with told, no_more_than(device, BATCH * FIRST_LAYER_BYTES):
            halved = extract(BATCH)
        assert 2 <= passes(server) - before <= BATCH
        assert sum(one.image_count for one in halved.provenance.split_batches) == BATCH
        assert_close(halved.features[MODULE], expected)
        before = passes(server)
        whole = extract(BATCH)
        assert whole.provenance.split_batches == ()
        assert_close(whole.features[MODULE], expected)
        assert passes(server) - before == 1, "the room came back"


def test_loads_and_unloads_leave_nothing(
    server: TestServer, held_bytes: Callable[[TestServer], Any], on_gpu: bool, tensors: Any
) -> None:
    cycles = 100 if on_gpu else 5
    with Client(server.address) as client:

        def cycle(seed: int) -> int:
            model = f"torchvision/squeezenet1_1@random:{seed}"
            client.load(model)
            if held is not None:
                held.look()
            client.extract(model, tensors[:2], MODULE, batch_size=2)
            bytes_held = 0 if held is None else held.count()
            client.unload(model)
            return bytes_held

        held = None
        cycle(cycles)
        held = held_bytes(server)
        most = [cycle(seed) for seed in range(cycles)]
        size = 4 * 1_235_496
        assert held.count() <= 0.02 * size
        np.testing.assert_allclose(most, size, rtol=0.02)
