"""A hundred small photographs, their features, and how many a server computed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.long_extractions import (
    in_memory,
    task_of,
)
from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client


@pytest.fixture(scope="module")
def originals(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 100 small photographs."""
    folder = tmp_path_factory.mktemp("photos")
    write_tiny_photos(folder, photos, 100)
    return folder


@pytest.fixture
def images(originals: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may change."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in originals.iterdir():
        os.link(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def expected(server: TestServer, originals: Path) -> dict[str, Any]:
    """Their features, extracted at once in memory."""
    with Client(server.address) as client:
        return in_memory(client, task_of(originals))


@pytest.fixture
def computed(server: TestServer) -> Callable[[], int]:
    """How many images the server computed since the last time of asking."""
    registry = server.running.metrics.registry
    before = 0

    def total() -> int:
        return int(registry.get_sample_value("thingsvision_images_total") or 0)

    def count() -> int:
        nonlocal before
        now = -1
        # A pass that ran when its call was interrupted is counted when it ends.
        while now != total():
            now = total()
            time.sleep(0.2)
        before, since = now, now - before
        return since

    count()
    return count
