"""Real servers over real sockets, real photographs, and the reference data if it is installed."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from support.arenas import FEW, limit_arenas
from support.checkout import CHECKOUT
from support.leftovers import FoldersOfFixtures, FreedMemory
from support.serving import TestServer, serving, use_a_lanes_cores
from support.stock_calls import StockCaller, stock_calls
from thingsvision_client import Client
from thingsvision_client.rpc.address import replace_default_address


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """One server for all tests that need nothing special of it."""
    with serving(tmp_path_factory.mktemp("weights"), drain_seconds=1.0) as running_server:
        yield running_server


@pytest.fixture(autouse=True)
def forgotten_address() -> Iterator[None]:
    """The server that a test connects to is not that of later tests."""
    yield
    replace_default_address("")


@pytest.fixture
def client(server: TestServer) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def stock(server: TestServer) -> Iterator[StockCaller]:
    """A caller of the shared server by the generated stubs alone."""
    with stock_calls(server.address) as caller:
        yield caller


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference data; tests that need it are skipped without it."""
    default = CHECKOUT.parent / "shared" / "data"
    folder = Path(os.environ.get("THINGSVISION_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"needs the reference data; {folder} (THINGSVISION_SHARED_DATA) is not there")
    return folder


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """Real photographs (RGB) that scikit-image ships."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    names = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]
    found = [folder / name for name in names if (folder / name).is_file()]
    assert len(found) >= 3, f"scikit-image ships fewer photographs than thought: {found}"
    return found


@pytest.fixture
def no_caches_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the user of this machine has downloaded must not decide."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "no-keras"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-hub"))


@pytest.fixture
def start_server(tmp_path: Path) -> Callable[..., Any]:
    """Start servers with settings of their own: `with start_server(max_batch=4) as server`."""
    return lambda **settings: serving(tmp_path / "weights", **settings)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all` walks the whole zoo: hours, and what was walked is remembered in docs/zoo.jsonl."""
    parser.addoption(
        "--fuzz", type=int, default=1, help="how many times the usual inputs fuzzing tries"
    )
    parser.addoption("--all", action="store_true", help="walk every model of the zoo, not a sample")


def pytest_configure(config: pytest.Config) -> None:
    """Compute as servers do, keep their request lines out, and disk and memory free.

    Until all tests are collected nothing is garbage: looking for it takes a sixth of that time.
    Workers and other processes that start from here sleep where threads wait for each other: with
    three workers on two cores, threads that spin took up to half of the processor's time.
    """
    config.pluginmanager.register(FoldersOfFixtures())
    config.pluginmanager.register(FreedMemory())
    use_a_lanes_cores()
    gc.disable()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    limit_arenas(FEW)
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet)


def pytest_collection_finish() -> None:
    """Collect garbage from now on."""
    gc.enable()
