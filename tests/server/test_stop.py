"""A stop frees all models in one go, however many own networks are in memory."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.checkout import SUPPORT
from support.server_process import server_process
from support.serving import serving
from thingsvision_client import Client

BATCH = np.zeros((2, 3, 32, 32), np.float32)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    subprocess.run([sys.executable, SUPPORT / "own_networks.py", folder], check=True, timeout=200)
    return folder / "any.pt2"


def use_networks(address: str, program: Path, count: int, folder: Path) -> None:
    """Upload so many networks, each another file, and extract features of each."""
    with zipfile.ZipFile(program) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    graph = next(name for name in files if name.endswith("models/model.json"))
    described = json.loads(files[graph])
    path = folder / "network.pt2"
    with Client(address) as client:
        for number in range(count):
            files[graph] = json.dumps(described | {"torch_version": f"v{number}"}).encode()
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in files.items():
                    archive.writestr(zipfile.ZipInfo(name), content)
            client.extract(client.upload_model(path), BATCH, "head")
        assert len(client.residency().models) == count


@contextmanager
def full_collections() -> Iterator[list[int]]:
    """Count the collections of all garbage meanwhile."""
    found: list[int] = []

    def on_collection(phase: str, info: dict[str, Any]) -> None:
        if phase == "start" and info["generation"] == 2:
            found.append(1)

    gc.callbacks.append(on_collection)
    try:
        yield found
    finally:
        gc.callbacks.remove(on_collection)


def test_a_stop_collects_garbage_once_for_all_models(program: Path, tmp_path: Path) -> None:
    with full_collections() as found:
        with serving(tmp_path, drain_seconds=0.1) as server:
            use_networks(server.address, program, 8, tmp_path)
            before = len(found)
        assert len(found) - before < 8


def test_a_stop_after_many_uploads_takes_seconds(
    program: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = 200 if request.config.getoption("all") else 20
    with server_process(tmp_path) as server:
        use_networks(server.address, program, count, tmp_path)
        started = time.monotonic()
        server.process.terminate()
        server.process.wait(60)
        assert time.monotonic() - started < 10
