"""The plain install in an empty environment is a client: no torch there, the same features."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from support.checkout import CHECKOUT
from support.serving import TestServer
from thingsvision_client import Client

PARTS = ("pyproject.toml", "README.md", "LICENSE", "proto", "server", "client")
UNREACHABLE = ("dns error", "failed to fetch", "connection refused", "error sending request")

MODEL = "torchvision/squeezenet1_0@random:0"
MODULE = "features.12"

IMPORT_ONLY = """
import sys, thingsvision_client
for name in thingsvision_client.__all__:
    getattr(thingsvision_client, name)
heavy = {"torch", "torchvision", "timm", "tensorflow", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
for name in sorted(heavy):
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(f"{name} is installed")
print(thingsvision_client.__file__)
"""

EXTRACT = """
import sys, numpy, thingsvision_client
server, model, module, result, *images = sys.argv[1:]
with thingsvision_client.Client(server) as client:
    extraction = client.extract(model, images, module, batch_size=1)
numpy.save(result, extraction.features[module])
"""


def uv(*arguments: str | Path) -> None:
    """Run uv; skip if no package index can be reached."""
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode and any(sign in result.stderr.lower() for sign in UNREACHABLE):
        pytest.skip(f"needs a package index: {result.stderr.strip()[-300:]}")
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of a copy (the build writes stubs) and install it, and nothing else."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*_pb2*")
    for part in PARTS:
        path = CHECKOUT / part
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, source / part, **({"ignore": ignored} if path.is_dir() else {}))
    uv("build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, wheel)
    return python


def run(python: Path, *arguments: str | Path) -> str:
    """Run Python as a user would, far from the checkout and its paths."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [str(python), *map(str, arguments)]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=python.parent, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_client_imports_without_any_framework(empty_python: Path) -> None:
    assert run(empty_python, "-W", "error", "-c", IMPORT_ONLY).startswith(
        str(empty_python.parents[1])
    )


def test_it_extracts_what_this_environments_client_does(
    empty_python: Path, server: TestServer, client: Client, photos: list[Path], tmp_path: Path
) -> None:
    result = tmp_path / "features.npy"
    run(empty_python, "-c", EXTRACT, server.address, MODEL, MODULE, result, *photos[:3])
    expected = client.extract(MODEL, photos[:3], MODULE, batch_size=1).features[MODULE]
    np.testing.assert_array_equal(np.load(result), expected)


def test_its_command_finds_the_server(empty_python: Path, server: TestServer) -> None:
    command = empty_python.parent / "thingsvision-client"
    assert "thingsvision_client" not in run(
        empty_python, command, "status", "--server", server.address
    )


def test_the_server_says_what_to_install(empty_python: Path) -> None:
    command = empty_python.parent / "thingsvision-server"
    result = subprocess.run([command], capture_output=True, text=True, cwd=empty_python.parent)
    assert result.returncode == 1
    assert "thingsvision-service[server]" in result.stderr
    assert "Traceback" not in result.stderr
