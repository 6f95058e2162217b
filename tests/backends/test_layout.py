"""Passes over channels-last batches: networks see what was asked for, or say that they can't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.closeness import assert_close
from thingsvision_server.backends.compute_options import ComputeOptions, MemoryFormat
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.backends.torch.structure import Tower, describe
from thingsvision_server.errors import InvalidRequestError
from thingsvision_server.inputs import IMAGE, InputSpec


class Witness(nn.Module):
    """Puts out whether its input is channels-last, of the shape of that input."""

    def forward(self, image: Tensor) -> Tensor:
        strides = torch.empty_like(image, memory_format=torch.channels_last).stride()
        return torch.full_like(image, float(image.stride() == strides))


class Flat(nn.Module):
    """Takes contiguous memory for granted."""

    def forward(self, image: Tensor) -> Tensor:
        return image.view(len(image), -1)


def network(channels: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Witness(), nn.Conv2d(channels, 4, 3), Witness(), Flat(), nn.Linear(144, 2))


def run(net: nn.Module, images: Tensor, name: str, memory_format: MemoryFormat) -> Any:
    found = taps(describe(net, {IMAGE: Tower(net, InputSpec(images.shape[1:]))}), [name])
    return (
        TorchModel(net, "cpu")
        .run([images], found, ComputeOptions(memory_format=memory_format))
        .rows[0]
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("module", ["0", "2"])
def test_inputs_and_outputs_of_convolutions_lie_as_asked_for(
    channels: int, count: int, module: str
) -> None:
    images = torch.randn(count, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    assert (run(network(channels), images, module, MemoryFormat.CHANNELS_LAST) == 1).all()
    assert (run(network(channels), images, module, MemoryFormat.CONTIGUOUS) == 0).all()


def test_rows_are_in_c_order_and_near_those_of_the_other_format() -> None:
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    found = [run(net, images, "0", memory_format) for memory_format in MemoryFormat]
    assert all(rows.flags.c_contiguous for rows in found)
    assert_close(*found)


def test_a_network_that_needs_contiguous_memory_says_so_and_still_works() -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    net = network(3)
    structure = describe(net, {IMAGE: Tower(net, InputSpec((3, 8, 8)))})
    model, last = TorchModel(net, "cpu"), taps(structure, ["4"])
    before = model.run([images], last).rows[0]
    with pytest.raises(InvalidRequestError, match=r"must be contiguous .*got channels_last"):
        model.run([images], last, ComputeOptions(memory_format=MemoryFormat.CHANNELS_LAST))
    np.testing.assert_array_equal(model.run([images], last).rows[0], before)
