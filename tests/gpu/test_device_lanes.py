"""Lanes side by side: the bits of one lane, and no lane with the arithmetic of another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from support.device_figures import LANES
from thingsvision_client import Client

pytestmark = pytest.mark.gpu

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.12"
BATCH = 4
CLIENTS = 4
ROUNDS = 3


def extract(client: Client, images: Any, **options: Any) -> Any:
    return client.extract(MODEL, images, MODULE, batch_size=BATCH, **options).features[MODULE]


def side_by_side(address: str, asks: list[tuple[Any, dict[str, Any]]]) -> list[Any]:
    """Ask from several clients at a time, a few times; return the features in the asks' order."""

    def ask(number: int) -> Any:
        images, options = asks[number % len(asks)]
        with Client(address) as client:
            return extract(client, images, **options)

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(ask, range(ROUNDS * len(asks))))


def test_two_lanes_have_the_bits_of_one(
    start_server: Callable[..., Any],
    lanes: Callable[[int], dict[str, int]],
    tensors: Any,
    on_gpu: bool,
) -> None:
    parts = [tensors, tensors[::-1].copy(), tensors[4:12], tensors[2:10]]
    with start_server(**lanes(LANES)) as server, Client(server.address) as client:
        alone = [extract(client, part) for part in parts]
        together = side_by_side(server.address, [(part, {}) for part in parts])
    for number, found in enumerate(together):
        np.testing.assert_array_equal(found, alone[number % len(parts)])
    if on_gpu:  # on a CPU a single lane has other cores, and so other bits
        with start_server(**lanes(1)) as server, Client(server.address) as client:
            for part, expected in zip(parts, alone, strict=True):
                np.testing.assert_array_equal(extract(client, part), expected)


def test_rounded_and_exact_passes_do_not_mix(
    start_server: Callable[..., Any],
    lanes: Callable[[int], dict[str, int]],
    tensors: Any,
    on_gpu: bool,
) -> None:
    rounded = {"precision": "tf32" if on_gpu else "bfloat16"}
    asks: list[tuple[Any, dict[str, Any]]] = [(tensors, {}), (tensors, rounded)]
    settings = lanes(LANES)
    with start_server(**settings) as server, Client(server.address) as client:
        alone = [extract(client, images, **options) for images, options in asks]
        together = side_by_side(server.address, asks)
    assert not np.array_equal(alone[0], alone[1]), "the rounded arithmetic was not used"
    for number, found in enumerate(together):
        np.testing.assert_array_equal(found, alone[number % len(asks)])
