"""The plain install in an empty environment is a client: no torch there, the same features.

Also with the oldest protobuf and gRPC: what TensorFlow 2.15 to 2.17 leaves to a client.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from support.installing import build_wheel, install, make_environment, run
from support.serving import TestServer
from thingsvision_client import Client

NEWEST: tuple[str, ...] = ()
OLDEST = ("protobuf==4.25.0", "grpcio==1.76.0")
SCRIPT = Path(__file__).with_name("extraction_script.py")

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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=[NEWEST, OLDEST], ids=["newest", "oldest"])
def plain_python(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The Python of an environment with the plain install, and nothing else."""
    python = make_environment(tmp_path_factory.mktemp("install") / "env")
    install(python, wheel, *request.param)
    return python


def test_the_client_imports_without_any_framework(plain_python: Path) -> None:
    assert run(plain_python, "-W", "error", "-c", IMPORT_ONLY).startswith(
        str(plain_python.parents[1])
    )


def test_it_extracts_what_this_environments_client_does(
    plain_python: Path, server: TestServer, client: Client, photos: list[Path], tmp_path: Path
) -> None:
    result = tmp_path / "features.npy"
    run(plain_python, "-W", "error", SCRIPT, server.address, MODEL, MODULE, result, *photos[:3])
    expected = client.extract(MODEL, photos[:3], MODULE, batch_size=1).features[MODULE]
    np.testing.assert_array_equal(np.load(result), expected)


def test_its_command_finds_the_server(plain_python: Path, server: TestServer) -> None:
    command = plain_python.parent / "thingsvision-client"
    assert "thingsvision_client" not in run(
        plain_python, command, "status", "--server", server.address
    )


def test_the_server_says_what_to_install(plain_python: Path) -> None:
    command = plain_python.parent / "thingsvision-server"
    result = subprocess.run([command], capture_output=True, text=True, cwd=plain_python.parent)
    assert result.returncode == 1
    assert "thingsvision-service[server]" in result.stderr
    assert "Traceback" not in result.stderr
