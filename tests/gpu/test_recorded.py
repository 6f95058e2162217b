"""Passes that are recorded once and replayed, as CUDA graphs: the bits of the pass itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from support.host_recorder import HostRecorder
from thingsvision_server.backends.torch.device import CudaGraphs, use_cores, use_exact_float32
from thingsvision_server.backends.torch.recorded import Outputs, RecordedPass

pytestmark = pytest.mark.gpu

LAYERS = 5
THREADS = 2
CALLS = 12


@pytest.fixture
def layers(device: str) -> nn.Module:
    """The first layers of a network, on the device."""
    torch.manual_seed(0)
    use_exact_float32()
    return models.squeezenet1_1().features[:LAYERS].eval().requires_grad_(False).to(device)


@pytest.fixture
def batches(tensors: Any, device: str) -> list[torch.Tensor]:
    """Batches of one shape and of different values, on the device."""
    return [torch.from_numpy(tensors[start : start + 4]).to(device) for start in (0, 4, 8, 12)]


@pytest.fixture
def recorder(device: str, on_gpu: bool) -> Any:
    """What records on the device."""
    return CudaGraphs(torch.device(device)) if on_gpu else HostRecorder()


def passing(layers: nn.Module) -> Any:
    def run(batch: torch.Tensor) -> Outputs:
        return {"features": [layers(batch)]}

    return run


@torch.inference_mode()
def test_replays_have_the_bits_of_the_pass_and_memory_of_their_own(
    layers: nn.Module, batches: list[torch.Tensor], recorder: Any
) -> None:
    whole = passing(layers)
    expected = [whole(batch)["features"][0].cpu().numpy() for batch in batches]
    recorded = RecordedPass(whole, batches[0], recorder)
    found = [recorded(batch)["features"][0] for batch in batches]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.cpu().numpy(), other)
    assert not np.array_equal(expected[0], expected[1])


def test_lanes_share_a_recording(
    layers: nn.Module, batches: list[torch.Tensor], recorder: Any, on_gpu: bool, device: str
) -> None:
    whole = passing(layers)
    with torch.inference_mode():
        expected = [whole(batch)["features"][0].cpu().numpy() for batch in batches]
        recorded = RecordedPass(whole, batches[0], recorder)
    if on_gpu:
        torch.cuda.synchronize(device)

    @torch.inference_mode()
    def work(number: int) -> Any:
        own = torch.cuda.stream(torch.cuda.Stream(device)) if on_gpu else nullcontext()
        with own:
            return recorded(batches[number % len(batches)])["features"][0].cpu().numpy()

    # A thread may have other cores, and so other bits.
    same_cores = partial(use_cores, torch.get_num_threads())
    with ThreadPoolExecutor(THREADS, initializer=same_cores) as lanes:
        found = list(lanes.map(work, range(CALLS)))
    for number, one in enumerate(found):
        np.testing.assert_array_equal(one, expected[number % len(batches)])
    if not on_gpu:
        assert recorder.missed_waits == 0, "a replay may overwrite what another lane still copies"
