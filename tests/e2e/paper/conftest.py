"""The working directory of a script of the paper, and its model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.serving import TestServer
from thingsvision_client import connect
from thingsvision_client.model_class import Model


@pytest.fixture
def here(tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `images`: class folders that sort otherwise than the photographs."""
    for number, photo in enumerate(photos):
        place = tmp_path / "images" / ("zebra", "ape")[number % 2] / f"{number} ünï{photo.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def connected(server: TestServer, here: Path) -> Path:
    """The working directory of a process that is connected to the shared server."""
    connect(server.address)
    return here


@pytest.fixture
def squeezenet(connected: Path) -> Model:
    return Model("squeezenet1_0", pretrained=False, device="cpu")
