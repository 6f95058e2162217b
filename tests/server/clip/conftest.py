"""Sources over an empty folder of weights; networks that leave with the file that uses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clip_networks import direct_network
from support.serving import open_sources
from thingsvision_server.sources import Sources


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return open_sources(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def networks_of_a_file() -> Iterator[None]:
    yield
    direct_network.cache_clear()
