"""Commands take the images of an HDF5 file: the features are those of the same pictures."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from support.serving import TestServer
from thingsvision_client import Client, HDF5Dataset, errors, load_features, read_origin
from thingsvision_client.cli import app

MODEL = ["--source", "torchvision", "--model-name", "resnet18", "--no-pretrained"]
MODEL += ["--module-name", "avgpool"]
PICTURES = np.random.default_rng(2).integers(0, 256, (6, 40, 50, 3), dtype=np.uint8)


def run(server: TestServer, *arguments: str | Path) -> Result:
    command = [*map(str, arguments), "--server", server.address]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stimuli.mat"
    with h5py.File(path, "w") as opened:
        opened["matlab"] = np.ascontiguousarray(PICTURES.transpose(0, 3, 2, 1))
        opened["matlab"].attrs["MATLAB_class"] = np.bytes_("uint8")
        opened["numpy"] = PICTURES
        opened["greys"] = PICTURES[..., 0]
        opened["labels"] = np.arange(6)
    return path


def test_features_of_matlabs_images_are_those_of_the_pictures(
    server: TestServer, client: Client, file: Path, tmp_path: Path
) -> None:
    queue = HDF5Dataset(file, "numpy", "pt").queue()
    model = "torchvision/resnet18@random:0"
    expected = client.extract(model, queue, "avgpool", batch_size=6).features["avgpool"]
    rdm = client.rdm(model, queue, "avgpool", batch_size=6).rdms["avgpool"]
    place = ["--image-root", file, "--batch-size", "6", "--hdf5-key"]
    for key, layout in (("matlab", []), ("matlab", ["--layout", "NCWH"]), ("numpy", [])):
        out = tmp_path / f"{key}{len(layout)}"
        done = run(
            server, "extract-features", *MODEL, *place, key, *layout, "--out-path", out,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert f"'{key}' in {file}: 6 RGB images of 40 x 50 pixels" in done.output
        np.testing.assert_array_equal(np.load(out / "features.npy"), expected)
        assert (out / "file_names.txt").read_text().split() == list("012345")
    done = run(server, "compute-rdm", *MODEL, *place, "matlab", "--out-path", tmp_path / "rdm")
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(tmp_path / "rdm/rdm.npy"), rdm)
    done = run(server, "fit-pca", *MODEL, *place, "matlab", "--components", "2")
    assert done.exit_code == 0, done.output


def test_images_in_a_file_have_the_names_that_are_given(
    server: TestServer, file: Path, tmp_path: Path
) -> None:
    names, out, listed = [f"stimulus {row}" for row in range(6)], tmp_path / "out", tmp_path / "n"
    listed.write_text("\n".join(names))
    place = ["--image-root", file, "--hdf5-key", "numpy", "--names", listed, "--out-path", out]
    done = run(server, "extract-features", *MODEL, *place)
    assert done.exit_code == 0, done.output
    assert (out / "file_names.txt").read_text().splitlines() == names
    assert [one["name"] for one in read_origin(out / "features.npy")["images"]] == names
    assert load_features(out).names == names
    dataset = HDF5Dataset(file, "numpy", "pt", img_indices=[4, 1], names=names)
    assert [str(row) for row in dataset] == dataset.names == ["stimulus 4", "stimulus 1"]
    done = run(server, "compute-rdm", *MODEL, *place[:-1], tmp_path / "rdm")
    assert done.exit_code == 0, done.output
    assert [one["name"] for one in read_origin(tmp_path / "rdm/rdm.npy")["images"]] == names
    listed.write_text("too few")
    failed = run(server, "extract-features", *MODEL, *place[:-1], tmp_path / "few")
    assert "an entry per image of 'numpy' in" in str(failed.exception)
    failed = run(server, "extract-features", *MODEL, "--names", listed, "--image-root", tmp_path)
    assert "--names are for an --image-root that is an HDF5 file" in str(failed.exception)


def test_what_the_options_leave_open_is_refused(
    server: TestServer, file: Path, tmp_path: Path
) -> None:
    def refused(*options: str | Path) -> str:
        out = ["--out-path", tmp_path / "out"]
        result = run(server, "extract-features", *MODEL, *out, "--image-root", *options)
        assert isinstance(result.exception, errors.InvalidRequestError), result.output
        return str(result.exception)

    assert "'greys', 'matlab', 'numpy': choose by --hdf5-key" in refused(file)
    assert "choose by layout= (in a shell --layout)" in refused(file, "--hdf5-key", "greys")
    layout = ["--hdf5-key", "greys", "--layout", "NHWC"]
    assert "'NHWC', as `layout` says, does not fit" in refused(file, *layout)
    assert "for an --image-root that is an HDF5 file" in refused(tmp_path, "--layout", "NHWC")
