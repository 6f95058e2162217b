"""The clients of `examples/` in other languages, against a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from support.checkout import CHECKOUT
from support.serving import TestServer
from thingsvision_client import Client

MODEL, MODULE = "torchvision/squeezenet1_0@random:1", "features.3"
ADVICE = "install Node 20.15 or newer, with npm"


@pytest.fixture(scope="module")
def node_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its libraries, beside a copy of the contract."""
    if not os.environ.get("THINGSVISION_REQUIRE_NODE") and not _has_node():
        pytest.skip(f"needs node and npm: {ADVICE}, and a registry that answers")
    folder = tmp_path_factory.mktemp("languages")
    shutil.copytree(CHECKOUT / "proto" / "thingsvision", folder / "proto" / "thingsvision")
    example = folder / "examples" / "node"
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(CHECKOUT / "examples" / "node", example, ignore=ignored)
    install = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    subprocess.run(install, cwd=example, check=True, timeout=240)
    return example / "extract.mjs"


def _has_node() -> bool:
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    commands = (
        ["node", "-e", "process.exit(require('zlib').crc32 ? 0 : 1)"],
        ["npm", "view", "apache-arrow", "version"],
    )
    return all(
        subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
        for command in commands
    )


def extract(
    example: Path, address: str, files: list[Path], model: str = MODEL
) -> subprocess.CompletedProcess[str]:
    command = ["node", str(example), address, model, MODULE, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_node_gives_the_features_of_the_python_client(
    node_example: Path, server: TestServer, client: Client, photos: list[Path]
) -> None:
    expected = client.extract(MODEL, photos, MODULE)
    done = extract(node_example, server.address, photos)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["image"] for row in rows] == [path.name for path in photos]
    assert rows[0]["shape"] == list(expected.features[MODULE].shape[1:])
    assert rows[0]["axes"] == ["AXIS_CHANNELS", "AXIS_HEIGHT", "AXIS_WIDTH"]
    found = np.array([row["values"] for row in rows], np.float32)
    assert np.array_equal(found, expected.features[MODULE].reshape(found.shape))


def test_node_says_what_the_server_says(
    node_example: Path, server: TestServer, photos: list[Path]
) -> None:
    done = extract(node_example, server.address, photos, "torchvision/squeezenet9@random:1")
    assert done.returncode != 0
    assert "squeezenet1_0" in done.stderr
