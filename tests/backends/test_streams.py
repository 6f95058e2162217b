"""Every wait between the streams of a lane, over a double that is as late as it may be."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.delayed_streams import DelayedLanes, ForgetfulPool
from thingsvision_server.backends.compute_options import ComputeOptions, MemoryFormat
from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.staging import use_staging
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.backends.torch.structure import Tower, describe
from thingsvision_server.errors import DeviceMemoryError
from thingsvision_server.inputs import IMAGE, InputSpec

SHAPE = (3, 8, 8)
NAMES = ["first", "again@t=0", "again@all", "relu", "last"]


class Network(nn.Module):
    """Runs a module twice, and overwrites outputs; fails on images that begin with a 7."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(4 * 64, 5)

    def forward(self, images: Tensor) -> Any:
        seen = self.first(images)
        if (images[:, 0, 0, 0] == 7).any():
            raise ValueError("a seven")
        seen = self.relu(self.again(self.relu(self.again(seen))))
        return self.last(seen.flatten(1))


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Structure]:
    torch.manual_seed(0)
    made = Network()
    return made, describe(made, {IMAGE: Tower(made, InputSpec(SHAPE))})


@pytest.fixture
def pool() -> Iterator[ForgetfulPool]:
    with use_staging(ForgetfulPool(2**24)) as made:
        yield made


def batch(seed: int, count: int = 3) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def seven() -> Tensor:
    return torch.full((3, *SHAPE), 7.0)


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("pieces", [[3], [1, 2, 1], [1, 1]])
@pytest.mark.parametrize("memory_format", MemoryFormat)
def test_queued_copies_give_the_bits_of_immediate_copies(
    network: tuple[nn.Module, Structure],
    pool: ForgetfulPool,
    pieces: list[int],
    memory_format: MemoryFormat,
) -> None:
    root, structure = network
    options = ComputeOptions(memory_format=memory_format)
    plain = TorchModel(root, "cpu")
    queued = TorchModel(root, "cpu", open_streams=DelayedLanes())
    tapped = taps(structure, NAMES)
    for seed in range(3):
        images = list(torch.split(batch(seed, sum(pieces)), pieces))
        found = queued.run(images, tapped, options).rows
        assert_same(found, plain.run(images, tapped, options).rows)


def test_lanes_that_share_a_pool_never_see_each_others_rows(
    network: tuple[nn.Module, Structure], pool: ForgetfulPool
) -> None:
    root, structure = network
    plain = TorchModel(root, "cpu")
    queued = TorchModel(root, "cpu", open_streams=DelayedLanes())
    tapped = taps(structure, NAMES)
    with ThreadPoolExecutor(2) as lanes:
        runs = lanes.map(lambda seed: queued.run([batch(seed)], tapped).rows, range(40))
        for seed, found in enumerate(runs):
            assert_same(found, plain.run([batch(seed)], tapped).rows)


def test_a_pass_that_fails_writes_into_nobodys_rows(
    network: tuple[nn.Module, Structure], pool: ForgetfulPool
) -> None:
    root, structure = network
    model = TorchModel(root, "cpu", open_streams=DelayedLanes())
    first, both = taps(structure, ["first"]), taps(structure, ["first", "last"])
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        # It has begun to copy the rows of `first` when it fails.
        assert one.submit(model.run, [seven()], both).exception() is not None
        gc.collect()  # the error's traceback holds the rows
        found = other.submit(model.run, [batch(1)], first).result().rows
        one.submit(model.run, [batch(2)], first).result()
    assert_same(found, TorchModel(root, "cpu").run([batch(1)], first).rows)


class Spoiler(nn.Module):
    """Changes its inputs, then asks for more memory than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Identity()

    def forward(self, images: Tensor) -> Any:
        images.mul_(2)
        if len(images) == 5:
            torch.empty(2**50)
        return self.module(images)


def test_inputs_that_the_network_changed_are_not_used_again() -> None:
    root = Spoiler()
    structure = describe(root, {IMAGE: Tower(root, InputSpec(SHAPE))})
    model, tapped = TorchModel(root, "cpu"), taps(structure, ["module"])
    with pytest.raises(DeviceMemoryError, match="5 images, and the network changes its inputs"):
        model.run([batch(0, 5)], tapped)
    (rows,) = model.run([batch(0, 1)], tapped).rows
    np.testing.assert_array_equal(rows, 2 * batch(0, 1).numpy())
