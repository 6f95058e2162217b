"""Commands that share a folder of results: names of other images stay, RDMs know their images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import rsa, save_features
from thingsvision_client.cli import app
from thingsvision_client.commands.sentences import in_shell
from thingsvision_client.errors import ImageError, InvalidRequestError

MODEL = ["--model-name", "torchvision/squeezenet1_1@random:0"]
MODULE = ["--module-name", "features.12"]


@pytest.fixture(scope="module")
def images(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `a` and `b`, of four photographs each, with other names."""
    folder = tmp_path_factory.mktemp("photos")
    write_tiny_photos(folder / "all", photos, 8)
    for number, path in enumerate(sorted((folder / "all").iterdir())):
        target = folder / ("a" if number < 4 else "b") / f"{number}{path.suffix}"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    return folder


def run(server: TestServer, *arguments: Any) -> str:
    """Run a command; return what it prints, or raise its error."""
    done = CliRunner().invoke(app, ["--server", server.address, *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("command", ["extract-features", "compute-rdm"])
def test_names_of_other_images_stay(
    server: TestServer, images: Path, tmp_path: Path, command: str
) -> None:
    """Results of other modules or formats are other files, but `file_names.txt` is the same."""
    to = ["--out-path", tmp_path, "--batch-size", 4]
    run(server, command, *MODEL, *MODULE, "--image-root", images / "a", *to)
    more = [*MODULE, "--module-name", "features.9"]
    names = (tmp_path / "file_names.txt").read_text()
    with pytest.raises(
        InvalidRequestError, match=r"results of other images \('0\..*choose another"
    ):
        run(server, command, *MODEL, *more, "--image-root", images / "b", *to)
    assert (tmp_path / "file_names.txt").read_text() == names
    run(server, command, *MODEL, *more, "--image-root", images / "a", *to)
    run(server, command, *MODEL, *MODULE, "--image-root", images / "b", *to, "--overwrite")
    assert (tmp_path / "file_names.txt").read_text() != names


def test_a_file_of_an_rdm_is_matched_by_the_names_in_its_metadata(
    server: TestServer, images: Path, tmp_path: Path
) -> None:
    run(
        server, "compute-rdm", *MODEL, *MODULE, "--image-root", images / "a", "--out-path", tmp_path
    )
    file = tmp_path / "rdm.npy"
    model, module = MODEL[1], MODULE[1]
    same = rsa(images / "a", file, model, module, server=server.address, bootstrap=0)
    assert same.of("rdm", module).score == pytest.approx(1)
    with pytest.raises(InvalidRequestError, match="These are the names in its metadata: rename"):
        rsa(images / "b", file, model, module, server=server.address, bootstrap=0)
    values = np.load(file)
    assert rsa(images / "b", values, model, module, server=server.address, bootstrap=0).scores
    np.save(file, values)  # the same values, but no longer the file that the metadata describe
    file.write_bytes(file.read_bytes() + b" ")
    assert rsa(images / "b", file, model, module, server=server.address, bootstrap=0).scores


def test_a_figure_finds_the_pictures_of_its_rdm(
    server: TestServer, images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images / "a", tmp_path / "photos")
    bad = sorted((tmp_path / "photos").iterdir())[1]
    bad.write_bytes(b"nothing")
    rdm = [*MODEL, *MODULE, "--image-root", tmp_path / "photos", "--out-path", tmp_path / "rdm"]
    with pytest.raises(InvalidRequestError, match="leave them out with on_error='skip'"):
        run(server, "compute-rdm", *rdm)
    run(server, "compute-rdm", *rdm, "--on-error", "skip")
    file, figure = tmp_path / "rdm/rdm.npy", tmp_path / "figure.png"
    drawing = ["plot-rdms", file, "--out", figure, "--image-root"]
    assert f"Wrote {figure}" in run(server, *drawing, tmp_path / "photos")
    with pytest.raises(InvalidRequestError, match=r"3 thumbnails do not exist, such as"):
        run(server, *drawing, images / "b", "--overwrite")


def test_commands_say_what_they_wrote(server: TestServer, tmp_path: Path) -> None:
    save_features(np.eye(3), tmp_path, "npy")
    to = ["--file-format", "npz", "--out-path", tmp_path / "more"]
    assert "Wrote" in run(server, "convert-features", tmp_path / "features.npy", *to)
    with pytest.raises(InvalidRequestError, match="is a folder: pass the path of a file in it"):
        run(server, "convert-features", tmp_path, *to)
    with pytest.raises(InvalidRequestError, match=r"is metadata itself: .* describes, .*\.npy\."):
        run(server, "methods-text", tmp_path / "features.npy.json")


def test_a_model_may_be_named_without_an_option(server: TestServer) -> None:
    named = run(server, "show-model", MODEL[1])
    assert named == run(server, "show-model", *MODEL)
    assert "SqueezeNet" in named


def test_an_image_is_not_a_folder(server: TestServer, images: Path, tmp_path: Path) -> None:
    image = next((images / "a").iterdir())
    with pytest.raises(InvalidRequestError, match=r"got the image .*: name its folder"):
        run(
            server, "extract-features", *MODEL, *MODULE, "--image-root", image,
            "--out-path", tmp_path,
        )  # fmt: skip


def test_the_error_that_ends_an_rdm_says_how_to_go_on(
    client: Any, images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images / "a", tmp_path / "photos")
    bad = sorted((tmp_path / "photos").iterdir())[1]
    bad.write_bytes(bad.read_bytes()[:-30])  # its header is good
    with pytest.raises(ImageError, match="Repair or remove it; on_error='skip'") as raised:
        client.rdm(MODEL[1], tmp_path / "photos", "features.12")
    assert in_shell(str(raised.value)).endswith(
        "--on-error skip leaves out images that can't be used."
    )
