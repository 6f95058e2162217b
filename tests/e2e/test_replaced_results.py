"""Results have their provenance beside them; files of something else are not replaced silently."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import (
    Client,
    compute_rdm,
    get_extractor,
    load_batches,
    origin_of,
    plot_rdm,
    plot_rdms,
    read_origin,
    rsa,
    save_features,
    split_features,
)
from thingsvision_client.cli import app
from thingsvision_client.errors import (
    InvalidRequestError,
    ReplacedFileWarning,
)
from thingsvision_client.utils.storing import merge_features, save_targets, tensor2slices

MODULE = "features.12"
FIRST, OTHER = "torchvision/squeezenet1_1@random:0", "torchvision/squeezenet1_1@random:1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small pictures."""
    import skimage

    chosen = tmp_path_factory.mktemp("photos")
    photos = Path(skimage.__file__).parent / "data"
    write_tiny_photos(chosen, [photos / "astronaut.png", photos / "coffee.png"], 4)
    for number, path in enumerate(sorted(chosen.iterdir())):
        path.rename(chosen / f"{number}.bmp")  # matplotlib's font has not all letters
    return chosen


def run(server: TestServer, *arguments: Any) -> None:
    """Run a command, and raise what it raises."""
    done = CliRunner().invoke(app, ["--server", server.address, *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output


def compute(server: TestServer, folder: Path, out: Path, *more: Any, model: str = FIRST) -> None:
    run(
        server, "compute-rdm", "--model-name", model, "--image-root", folder,
        "--module-name", MODULE, "--out-path", out, *more,
    )  # fmt: skip


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def features_of(model: str, folder: Path, server: TestServer) -> Any:
    extractor = get_extractor(
        "squeezenet1_1",
        source="torchvision",
        device=None,
        pretrained=False,
        server=server.address,
        model_parameters={"seed": int(model[-1])},
    )
    batches = load_batches(folder, folder.parent / "names", "pt", batch_size=4)
    return extractor.extract_features(batches, MODULE)


# ---------------------------------------------------------------- compute-rdm


def test_an_rdm_and_its_figure_have_their_provenance(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    compute(server, folder, tmp_path, "--plot", "--method", "cosine")
    for name in ("rdm.npy", "rdm.png"):
        found = read_origin(tmp_path / name)
        assert found["model"] == FIRST
        assert (found["metric"], found["batch_size"]) == ("cosine", 32)
        assert found["arithmetic"] == "float64"
        assert [one["module"] for one in found["modules"].values()] == [MODULE]
        assert [one["name"] for one in found["images"]] == sorted(
            path.name for path in folder.iterdir()
        )
    rdm = np.load(tmp_path / "rdm.npy")
    with Client(server.address) as client:
        expected = client.rdm(FIRST, folder, MODULE, metric="cosine", batch_size=32)
    np.testing.assert_array_equal(rdm, expected.rdms[MODULE])


def test_another_models_rdm_is_only_replaced_on_request(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    compute(server, folder, tmp_path, "--plot")
    before = content(tmp_path)
    others: list[tuple[Any, ...]] = [("--method", "euclidean")]
    for more in others:
        with pytest.raises(InvalidRequestError, match=f"has correlation RDMs of {MODULE} of"):
            compute(server, folder, tmp_path, *more)
    with pytest.raises(InvalidRequestError, match=f"of {FIRST} for 4 images .*--overwrite"):
        compute(server, folder, tmp_path, model=OTHER)
    (tmp_path / "fewer").mkdir()
    (tmp_path / "fewer" / "a.bmp").write_bytes(next(iter(folder.iterdir())).read_bytes())
    (tmp_path / "fewer" / "b.bmp").write_bytes(sorted(folder.iterdir())[1].read_bytes())
    with pytest.raises(InvalidRequestError, match="--overwrite"):
        compute(server, tmp_path / "fewer", tmp_path)
    assert {name: before[name] for name in before} == {
        name: value for name, value in content_of_files(tmp_path).items() if name in before
    }
    compute(server, folder, tmp_path)  # the same again
    assert (tmp_path / "rdm.png").is_file()
    compute(server, folder, tmp_path, "--overwrite", model=OTHER)
    assert read_origin(tmp_path / "rdm.npy")["model"] == OTHER
    assert not (tmp_path / "rdm.png").exists()
    assert not (tmp_path / "rdm.png.json").exists()


def content_of_files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def test_a_figure_alone_or_a_file_without_metadata_is_not_replaced(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    for name in ("rdm.png", "rdm.npy"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_bytes(b"mine")
        with pytest.raises(InvalidRequestError, match=rf"{name} has results of unknown origin"):
            compute(server, folder, out)
        assert content(out) == {name: b"mine"}
        compute(server, folder, out, "--overwrite")
        assert sorted(content(out)) == ["file_names.txt", "rdm.npy", "rdm.npy.json"]


# ---------------------------------------------------------------- features


def test_features_of_another_model_are_only_replaced_on_request(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    def extract(*more: Any, model: str = FIRST, images: Path = folder) -> None:
        run(
            server, "extract-features", "--model-name", model, "--image-root", images,
            "--module-name", MODULE, "--out-path", tmp_path / "out", *more,
        )  # fmt: skip

    extract()
    before = content(tmp_path / "out")
    extract()
    with pytest.raises(InvalidRequestError, match=r"from another extraction \(.*--overwrite"):
        extract(model=OTHER)
    fewer = tmp_path / "fewer"
    write = sorted(folder.iterdir())[0]
    fewer.mkdir()
    (fewer / write.name).write_bytes(write.read_bytes())
    with pytest.raises(InvalidRequestError, match="from another extraction"):
        extract(images=fewer)
    after = content(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    extract("--overwrite", model=OTHER)
    assert read_origin(tmp_path / "out" / "features.npy")["model"] == OTHER
    (tmp_path / "out" / "features.npy.json").unlink()
    with pytest.raises(InvalidRequestError, match="nothing is known of it"):
        extract(model=OTHER)


def test_converted_features_keep_their_provenance(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    for name, model in (("first", FIRST), ("other", OTHER)):
        save_features(features_of(model, folder, server), tmp_path / name, "npy")

    def convert(name: str, *more: str) -> None:
        run(
            server, "convert-features", tmp_path / name / "features.npy", "--file-format", "hdf5",
            "--out-path", tmp_path / "out", *more,
        )  # fmt: skip

    convert("first")
    convert("first")
    found = read_origin(tmp_path / "out" / "features.hdf5")
    source = read_origin(tmp_path / "first" / "features.npy")
    for key in ("model", "model_sha256", "preprocessing", "images", "rows"):
        assert found[key] == source[key]
    with pytest.raises(InvalidRequestError, match=f"has features of {MODULE} of {FIRST}"):
        convert("other")
    convert("other", "--overwrite")
    assert read_origin(tmp_path / "out" / "features.hdf5")["model"] == OTHER
    merged = merge_features(tmp_path / "out", "hdf5")
    origin = origin_of(merged)
    assert origin is not None
    assert origin["model"] == OTHER


def test_functions_of_the_library_replace_with_a_warning(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    first, other = (features_of(model, folder, server) for model in (FIRST, OTHER))
    words = f"was replaced: it had features of {MODULE} of {FIRST} for 4 images"
    writers: dict[str, Any] = {
        "npy": lambda array, out: save_features(array, out, "npy"),
        "h5": lambda array, out: save_features(array, out, "hdf5"),
        "pieces": lambda array, out: split_features(out, array, "npy", n_splits=2),
        "in one": lambda array, out: split_features(out, array, "hdf5", n_splits=2),
        "slices": lambda array, out: tensor2slices(out, "features.txt", array),
    }
    for name, write in writers.items():
        out = tmp_path / name
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write(first, out)
            write(first, out)
        if name == "slices":
            continue
        with pytest.warns(ReplacedFileWarning) as told:
            write(other, out)
        assert len(told) == 1
        assert told[0].filename == __file__, "the warning points to another line than the user's"
        assert name == "pieces" or words in str(told[0].message)
        assert FIRST in str(told[0].message)
    assert sum(1 for _ in (tmp_path / "pieces").glob("features_0*.npy.json")) == 2


def test_arrays_of_unknown_origin_are_the_same_by_their_bytes(tmp_path: Path) -> None:
    rows = np.arange(12.0).reshape(4, 3)
    save_features(rows, tmp_path, "npy")
    save_features(rows.copy(), tmp_path, "npy")
    with pytest.warns(ReplacedFileWarning, match="it had results of unknown origin"):
        save_features(rows + 1, tmp_path, "npy")
    save_targets(np.arange(4), tmp_path, "npy")
    assert read_origin(tmp_path / "targets.npy")["modules"]["targets"]["shape"] == [4]
    save_targets(np.arange(4), tmp_path, "npy")
    with pytest.warns(ReplacedFileWarning):
        save_targets(np.arange(5), tmp_path, "npy")


# ---------------------------------------------------------------- figures and RSA


def test_the_librarys_figure_says_what_it_shows(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    first, other = (features_of(model, folder, server) for model in (FIRST, OTHER))
    plot_rdm(tmp_path, first.reshape(4, -1))
    plot_rdm(tmp_path, first.reshape(4, -1), colormap="viridis")
    found = read_origin(tmp_path / "rdm.png")
    assert found["model"] == FIRST
    assert found["figure"] == {"method": "correlation", "colormap": "viridis"}
    with pytest.warns(ReplacedFileWarning, match="had a figure of rdm"):
        plot_rdm(tmp_path, other.reshape(4, -1))


def test_a_grid_of_rdms_is_only_replaced_on_request(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    first, other = (client.rdm(model, folder, MODULE) for model in (FIRST, OTHER))
    path = tmp_path / "grid.svg"
    plot_rdms(path, first)
    plot_rdms(path, first, colormap="magma")
    found = json.loads((tmp_path / "grid.svg.json").read_text())
    assert found["sources"]["rdms"]["model"] == FIRST
    assert list(found["inputs"]) == [MODULE]
    with pytest.raises(InvalidRequestError, match=r"has a figure of .*overwrite=True"):
        plot_rdms(path, other)
    plot_rdms(path, other, overwrite=True)
    assert FIRST not in (tmp_path / "grid.svg.json").read_text()


def test_the_command_for_grids_names_its_files(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    compute(server, folder, tmp_path / "rdms")
    out = tmp_path / "grid.png"
    run(server, "plot-rdms", f"IT={tmp_path / 'rdms' / 'rdm.npy'}", "--out", out)
    found = json.loads((tmp_path / "grid.png.json").read_text())
    assert found["sources"]["IT"]["model"] == FIRST
    run(server, "plot-rdms", f"IT={tmp_path / 'rdms' / 'rdm.npy'}", "--out", out)
    with pytest.raises(InvalidRequestError, match="overwrite"):
        run(server, "plot-rdms", f"V1={tmp_path / 'rdms' / 'rdm.npy'}", "--out", out)


def test_an_rsa_is_only_replaced_on_request(
    server: TestServer, client: Client, folder: Path, tmp_path: Path
) -> None:
    brain = compute_rdm(np.random.default_rng(0).normal(size=(4, 9)))
    first, other = (
        rsa(folder, brain, model, MODULE, client=client, bootstrap=0) for model in (FIRST, OTHER)
    )
    first.save(tmp_path)
    first.save(tmp_path, "svg")
    with pytest.raises(InvalidRequestError, match=f"another RSA of {FIRST}.*overwrite=True"):
        other.save(tmp_path)
    assert (tmp_path / "rsa.svg").is_file()
    other.save(tmp_path, overwrite=True)
    assert sorted(content(tmp_path)) == ["rsa.csv", "rsa.json", "rsa.png"]
    np.save(tmp_path / "brain.npy", brain)
    with pytest.raises(InvalidRequestError, match=f"another RSA of {OTHER}.*--overwrite"):
        run(
            server, "rsa", "--model-name", FIRST, "--image-root", folder, "--module-name", MODULE,
            "--out-path", tmp_path, "--reference", tmp_path / "brain.npy", "--bootstrap", 0,
        )  # fmt: skip
    assert not (tmp_path / "file_names.txt").exists()
