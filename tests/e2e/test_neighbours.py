"""The client beside libraries that pin older versions, in environments of their own: `--all`.

Their table is in docs/installation.md. test_install tests the oldest protobuf and gRPC at each run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.closeness import assert_close
from support.installing import build_wheel, install, make_environment, run
from support.serving import TestServer
from thingsvision_client import Client

MODEL, MODULE = "torchvision/squeezenet1_0@random:0", "features.12"
HERE = Path(__file__).parent
PYTHON = "3.11"  # TensorFlow 2.15 has wheels up to it

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not request.config.getoption("--all"):
        pytest.skip("downloads gigabytes: give --all")
    if shutil.which(f"python{PYTHON}") is None:
        pytest.skip(f"needs Python {PYTHON}")
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Path]:
    """The Python of an empty environment, which takes gigabytes by the end of a test."""
    yield make_environment(tmp_path / "env", f"python{PYTHON}")
    shutil.rmtree(tmp_path / "env")


@pytest.mark.parametrize("version", ["2.15", "2.16", "2.17", "2.18", "2.19", "2.20", "2.21"])
def test_tensorflow_predicts_and_the_client_extracts_in_one_process(
    version: str,
    wheel: Path,
    python: Path,
    server: TestServer,
    client: Client,
    photos: list[Path],
    tmp_path: Path,
) -> None:
    install(python, f"tensorflow-cpu=={version}.*")
    install(python, wheel)  # keeps what TensorFlow needs
    expected = client.extract(MODEL, photos[:3], MODULE, batch_size=1).features[MODULE]
    for first in ("client", "tensorflow"):
        result = tmp_path / f"{first}.npz"
        script = HERE / "tensorflow_script.py"
        said = run(python, script, first, server.address, MODEL, MODULE, result, *photos[:3])
        assert said.startswith(f"{version}.")
        with np.load(result) as found:
            np.testing.assert_array_equal(found["features"], expected)
            np.testing.assert_array_equal(found["before"], found["after"])
            assert_close(found["before"], found["expected"])
            assert_close(found["own"], found["expected"])


def test_the_original_library_and_the_client_extract_in_one_process(
    wheel: Path, python: Path, server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    install(python, "thingsvision==2.7.3")
    install(python, wheel)
    script = HERE / "thingsvision_script.py"
    said = run(python, script, server.address, MODULE, tmp_path, *photos[:3])
    assert re.search(r"PyTorch 2\.9 or newer, got 2\.0\..*model_path", said)  # the library pins it
    with np.load(tmp_path / "found.npz") as found:
        assert found["features"].std() > 0
        assert_close(found["features"], found["expected"])
        assert found["tensorflow"] == 6


def test_the_oldest_libraries_are_enough(
    wheel: Path,
    python: Path,
    server: TestServer,
    client: Client,
    photos: list[Path],
    tmp_path: Path,
) -> None:
    """The lower bounds of pyproject.toml, all at once."""
    install(python, wheel, "--resolution", "lowest-direct")
    script, result = HERE / "extraction_script.py", tmp_path / "found.npy"
    run(python, "-W", "error", script, server.address, MODEL, MODULE, result, *photos[:3])
    expected = client.extract(MODEL, photos[:3], MODULE, batch_size=1).features[MODULE]
    np.testing.assert_array_equal(np.load(result), expected)
