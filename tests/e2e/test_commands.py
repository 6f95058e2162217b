"""The commands a user types, each in a process of its own, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from support.checkout import CHECKOUT
from support.serving import TestServer
from thingsvision_client import plot_rdms
from thingsvision_server.backends.torch.hardware import describe_hardware

COMMAND = Path(sys.executable).parent / "thingsvision-client"
SQUEEZENET = ["--source", "torchvision", "--model-name", "squeezenet1_0", "--no-pretrained"]


def run(server: TestServer | None, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, COLUMNS="200")
    environment.pop("THINGSVISION_SERVER", None)
    if server is not None:
        environment["THINGSVISION_SERVER"] = server.address
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_models_and_modules_are_listed(server: TestServer) -> None:
    models = run(server, "models", "--source", "torchvision", "squeeze*")
    assert models.returncode == 0, models.stderr
    assert "squeezenet1_1" in models.stdout
    assert "resnet50" not in models.stdout
    tree = run(server, "show-model", *SQUEEZENET)
    assert tree.returncode == 0, tree.stderr
    assert "Conv2d" in tree.stdout


def test_features_are_extracted_into_files(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    arguments = ["--image-root", photos[0].parent, "--out-path", tmp_path, "--batch-size", "4"]
    arguments += ["--module-name", "features.5", "--module-name", "classifier.3", "--flatten-acts"]
    arguments += ["--model-parameters", json.dumps({"seed": 3}), "--file-format", "npz"]
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos:
        (folder / photo.name).symlink_to(photo)
    arguments[1] = folder
    done = run(server, "extract-features", *SQUEEZENET, *arguments)
    assert done.returncode == 0, done.stderr
    saved = np.load(tmp_path / "features.npz")
    assert saved["classifier.3"].shape == (len(photos), 1000)
    names = (tmp_path / "file_names.txt").read_text().splitlines()
    assert names == sorted(photo.name for photo in photos)
    assert "\r" not in done.stderr, "a progress bar in a pipe"


def test_an_rdm_is_computed_and_plotted(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos:
        (folder / photo.name).symlink_to(photo)
    places = ["--image-root", folder, "--out-path", tmp_path, "--module-name", "classifier.3"]
    done = run(server, "compute-rdm", *SQUEEZENET, *places, "--plot")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("*.npy")
    rdm = np.load(path)
    assert rdm.shape == (len(photos), len(photos))
    assert np.all(np.diag(rdm) == 0)
    picture = tmp_path / "rdm.png"
    names = (tmp_path / "file_names.txt").read_text().splitlines()
    bare, drawn = tmp_path / "bare.png", tmp_path / "drawn.png"
    label = "dissimilarity (1 \N{MINUS SIGN} Pearson's r)"
    plot_rdms(bare, {"classifier.3": rdm}, images=names, units=label)
    plot_rdms(drawn, {"classifier.3": rdm}, images=names, thumbnails=folder, units=label)
    assert picture.read_bytes() == drawn.read_bytes(), "photographs are not on its axes"
    assert picture.read_bytes() != bare.read_bytes()


def test_the_status_names_what_is_resident(server: TestServer) -> None:
    status = run(server, "status")
    assert status.returncode == 0, status.stderr
    assert f"cpu is {describe_hardware('cpu')}." in status.stdout


def test_the_status_is_shown_anew_with_what_the_device_does(server: TestServer) -> None:
    watched = run(server, "status", "--watch", "--count", "2", "--seconds", "0.1")
    assert watched.returncode == 0, watched.stderr
    views = watched.stdout.strip().split("Server ")[1:]
    assert len(views) == 2
    for view in views:
        heads, rates = view.strip().splitlines()[-2:]
        assert heads.split() == ["device", "images/s", "busy", "lanes", "images", "waiting"]
        assert rates.split()[:2] == ["cpu", "0.0"]


def test_models_are_loaded_pinned_and_unloaded(server: TestServer) -> None:
    model = "torchvision/squeezenet1_1@random:7"
    loaded = run(server, "load", model)
    assert f"{model} is on cpu with 4,9" in loaded.stdout, loaded.stderr
    assert f"{model} is pinned" in run(server, "pin", model).stdout
    kept = run(server, "unload", model)
    assert kept.returncode == 1
    assert "pinned" in kept.stderr
    assert f"{model} is not pinned" in run(server, "pin", model, "--unpin").stdout
    assert "bytes freed" in run(server, "unload", model).stdout
    assert model not in run(server, "status").stdout


def test_defaults_of_names_are_the_librarys(
    server: TestServer, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / photos[0].name).symlink_to(photos[0])
    done = run(server, "extract-features", "--no-pretrained")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "features" / "features.npy").shape == (1, 256, 13, 13)
    assert run(server, "show-model", "--no-pretrained").stdout.count("Conv2d") == 5


def test_the_version_is_printed() -> None:
    assert (
        run(None, "--version").stdout == f"thingsvision-client {version('thingsvision-service')}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["show-model", "--source", "torchvision", "--model-name", "resnet5", "--no-pretrained"],
            "resnet50",
        ),
        (["models", "--source", "torchvisoin"], "torchvision"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_1(
    server: TestServer, arguments: list[str], sentence: str
) -> None:
    failed = run(server, *arguments)
    assert failed.returncode == 1
    assert sentence in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="other words")
def test_a_file_that_can_not_be_used_is_one_sentence(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / photos[0].name).symlink_to(photos[0])
    (tmp_path / "taken").touch()
    out = tmp_path / "taken" / "out"
    failed = run(
        server, "extract-features", *SQUEEZENET, "--module-name", "features.3",
        "--image-root", tmp_path / "images", "--out-path", out,
    )  # fmt: skip
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"Error: `out_path` must be a folder, got {str(out)!r}: ")
    assert failed.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_one_sentence(server: TestServer, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"an image")
    failed = run(
        server, "extract-features", *SQUEEZENET, "--image-root", tmp_path / "images",
        "--out-path", tmp_path,
    )  # fmt: skip
    assert failed.returncode == 1
    assert failed.stderr == "Error: 'caf\\udce9.jpg' must be UTF-8: rename it.\n"


def test_without_a_server_the_user_is_told_how_to_name_one() -> None:
    failed = run(None, "status")
    assert failed.returncode == 1
    assert "THINGSVISION_SERVER" in failed.stderr


def test_the_demo_extracts_and_leaves_nothing_running(photos: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos:
        (folder / photo.name).symlink_to(photo)
    paths = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])  # as scripts/demo
    done = subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / "demo.py", folder],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "120", "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "espresso" in done.stdout, "the network is not trained, or preprocessed otherwise"
    output = tmp_path / "demo-output"
    assert (output / "rdm.png").read_bytes().startswith(b"\x89PNG")
    assert len((output / "file_names.txt").read_text().splitlines()) == len(photos)
    assert "The server has stopped" in done.stdout
