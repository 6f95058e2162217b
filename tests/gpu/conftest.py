"""The device under test, real servers on it, photographs, and the bytes that networks hold there.

Without `scripts/gpu`, that is with pytest alone, a CPU stands in where there is no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench.photographs import ENDINGS, photograph_folder

from support.device_figures import HeldBytes
from support.serving import TestServer, serving
from thingsvision_client import Client


@pytest.fixture(scope="session")
def device() -> str:
    """The device of all servers."""
    chosen = os.environ.get("THINGSVISION_GPU_DEVICE")
    return chosen or ("cuda:0" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def on_gpu(device: str) -> bool:
    """Whether the device is a GPU."""
    return device.startswith("cuda")


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Real photographs."""
    chosen = os.environ.get("THINGSVISION_GPU_PHOTOGRAPHS")
    folder = photograph_folder(Path(chosen) if chosen else None)
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS]
    assert len(found) >= 3, f"there are too few photographs in {folder}"
    return found[:24]


@pytest.fixture(scope="session")
def tensors() -> Any:
    """Inputs like preprocessed images, float32 [16, 3, 64, 64], the same each time."""
    return np.random.default_rng(0).uniform(-2, 2, (16, 3, 64, 64)).astype(np.float32)


@pytest.fixture
def start_server(tmp_path: Path, device: str) -> Callable[..., Any]:
    """Start servers on the device with settings of their own."""
    defaults = {"device": device, "drain_seconds": 1.0, "untried_options": True}
    return lambda **settings: serving(tmp_path / "weights", **(defaults | settings))


@pytest.fixture
def lanes(on_gpu: bool) -> Callable[[int], dict[str, int]]:
    """Return the setting of so many lanes."""
    return lambda count: {"gpu_lanes" if on_gpu else "cpu_lanes": count}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, device: str) -> Iterator[TestServer]:
    """A server for all tests of a file that need nothing special of it."""
    folder = tmp_path_factory.mktemp("weights")
    with serving(folder, device=device, drain_seconds=1.0) as running:
        yield running


@pytest.fixture
def client(server: TestServer) -> Iterator[Client]:
    """A client of the file's server."""
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def held_bytes(device: str) -> Callable[[TestServer], HeldBytes]:
    """Return what measures the bytes of a server's networks."""
    return lambda server: HeldBytes(server, device)
