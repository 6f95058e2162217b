"""`deterministic` and `batch_size`: bits that depend on nothing but the image, or the batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from support.serving import TestServer
from thingsvision_client import Client

pytestmark = pytest.mark.gpu

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.12"


def extract(client: Client, images: Any, **options: Any) -> Any:
    return client.extract(MODEL, images, MODULE, **options).features[MODULE]


def test_a_deterministic_image_has_its_bits_in_any_company(
    client: Client, server: TestServer, tensors: Any
) -> None:
    whole = extract(client, tensors, deterministic=True)
    for place in (0, 7, len(tensors) - 1):
        alone = extract(client, tensors[place : place + 1], deterministic=True)
        np.testing.assert_array_equal(alone[0], whole[place])
    backwards = extract(client, tensors[::-1].copy(), deterministic=True)
    np.testing.assert_array_equal(backwards[::-1], whole)

    def ask(deterministic: bool) -> Any:
        with Client(server.address) as other:
            return extract(other, tensors, deterministic=deterministic)

    with ThreadPoolExecutor(4) as clients:
        found = list(clients.map(ask, [True, False, True, False]))
    np.testing.assert_array_equal(found[0], whole)
    np.testing.assert_array_equal(found[2], whole)


def test_batches_of_a_size_have_the_same_bits_each_time(client: Client, tensors: Any) -> None:
    first = extract(client, tensors, batch_size=4)
    np.testing.assert_array_equal(extract(client, tensors, batch_size=4), first)
    # As many images again, as cores may depend on their number: the same batches in another order.
    turned = np.concatenate([tensors[8:], tensors[:8]])
    expected = np.concatenate([first[8:], first[:8]])
    np.testing.assert_array_equal(extract(client, turned, batch_size=4), expected)
