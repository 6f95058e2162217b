"""The MATLAB client in GNU Octave, against a real server, compared with the Python client."""

from __future__ import annotations

import re
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from support.octave import run_octave
from support.serving import TestServer
from support.tall_keras import MODULE, write_tall_keras
from thingsvision_client import Client, PreprocessingOverrides, Reduction
from thingsvision_client.rpc.extraction import Extraction

TORCH = "torchvision/squeezenet1_1@random:0"
CASES = {
    "torch": (TORCH, "features.5"),
    "keras": ("own/{sha256}", MODULE),
    "tokens": ("timm/vit_tiny_patch16_224@random:0", "blocks.1"),
}
NAMES = ["bild ä 1.png", "photo 2.png", "z.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs without symmetry, in a folder with a blank and a letter beyond ASCII."""
    made = tmp_path_factory.mktemp("octave") / "fotos größer"
    made.mkdir()
    chance = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        ramp = np.linspace(0, 200, 70 * 50 * 3).reshape(70, 50, 3)[:: 1 - 2 * (number % 2)]
        noise = chance.integers(0, 50, ramp.shape)
        Image.fromarray((ramp + noise).astype(np.uint8)).save(made / name)
    return made


@pytest.fixture(scope="module")
def keras_file(folder: Path) -> Path:
    """A Keras model for images of 40 x 56."""
    return write_tall_keras(folder.parent / "tall.keras")


@pytest.fixture(scope="module")
def found(server: TestServer, folder: Path, keras_file: Path) -> dict[str, Any]:
    """What all methods returned, in one start of Octave."""
    paths = f"'{folder}', '{folder / NAMES[0]}', '{keras_file}'"
    script = f"main_calls('{server.address}', {paths})"
    return run_octave(script, folder.parent)


@pytest.fixture(scope="module")
def references(
    server: TestServer, folder: Path, keras_file: Path, found: dict[str, Any]
) -> dict[str, Extraction]:
    """The same by the Python client."""
    assert found["uploaded"]["sha256"] == sha256(keras_file.read_bytes()).hexdigest()
    tall = PreprocessingOverrides(resize=(96, 160), crop=False)
    with Client(server.address) as client:
        return {
            case: client.extract(
                model.format(**found["uploaded"]),
                folder,
                module,
                batch_size=2,
                preprocessing=tall if case == "torch" else None,
            )
            for case, (model, module) in CASES.items()
        }


@pytest.mark.parametrize("case", CASES)
def test_values_are_pythons_bit_for_bit(
    found: dict[str, Any], references: dict[str, Extraction], case: str
) -> None:
    module = CASES[case][1]
    rows, axes = references[case].features[module], references[case].axes[module]
    assert len({len(rows), *rows.shape[1:]}) == rows.ndim, "all lengths must differ"
    got = found[case]
    assert got["native"].dtype == np.float32
    np.testing.assert_array_equal(got["native"], rows)
    order = ["height", "width", "channels"] if case != "tokens" else ["tokens", "features"]
    moved = rows.transpose(*(1 + axes.index(axis) for axis in order), 0)
    np.testing.assert_array_equal(got["channels"], moved)
    np.testing.assert_array_equal(got["flat"], rows.reshape(len(rows), -1))
    in_order = moved.reshape(-1, len(rows), order="F").T
    np.testing.assert_array_equal(got["rows"], in_order)
    index = got["info_rows"]["unitIndex"].astype(int) - 1
    np.testing.assert_array_equal(got["rows"], rows.reshape(len(rows), -1)[:, index])
    info = got["info_channels"]
    assert list(info["images"]) == NAMES
    assert list(info["axes"]) == list(axes)
    assert info["provenance"]["model_sha256"] == references[case].provenance.model_sha256
    assert info["unitIndex"].size == 0


def test_axes_of_the_three_networks_are_in_three_orders(references: dict[str, Extraction]) -> None:
    axes = {case: references[case].axes[module] for case, (_, module) in CASES.items()}
    assert axes == {
        "torch": ("channels", "height", "width"),
        "keras": ("height", "width", "channels"),
        "tokens": ("tokens", "features"),
    }


def test_several_modules_are_a_struct(found: dict[str, Any], client: Client, folder: Path) -> None:
    reference = client.extract(TORCH, folder, ["features.5", "classifier.1", ""], batch_size=2)
    several, info = found["several"], found["several_info"]
    assert list(info["fields"]) == ["features_5", "classifier_1", "model"]
    assert list(info["modules"][:2]) == ["features.5", "classifier.1"]
    rows = reference.features["features.5"]
    np.testing.assert_array_equal(several["features_5"], rows.transpose(2, 3, 1, 0))
    vector = reference.features[""]
    assert list(found["model_size"]) == [1, 1, vector.shape[1], len(NAMES)]
    np.testing.assert_array_equal(several["model"].squeeze().T, vector)


def test_pixels_are_the_file_of_these_pixels(found: dict[str, Any], folder: Path) -> None:
    np.testing.assert_array_equal(found["pixels"], np.asarray(Image.open(folder / NAMES[0])))
    np.testing.assert_array_equal(found["from_pixels"], found["from_file"])
    assert list(found["named"]) == ["a", "ü"]
    assert list(found["folder_images"]) == NAMES


def test_bad_images_can_be_skipped(found: dict[str, Any]) -> None:
    np.testing.assert_array_equal(found["skipping"], found["all_good"])
    moved = np.moveaxis(found["all_good"], (3, 2), (0, 1))
    np.testing.assert_array_equal(found["skipping_rows"], moved)
    assert found["skipped"]["place"] == 2
    assert found["skipped"]["name"].endswith("broken.png")
    assert found["skipping_rdm"].shape == (2, 2)
    assert [Path(name).name for name in found["skipping_names"]] == [NAMES[0]] * 2


def test_reductions_count_from_one(found: dict[str, Any], client: Client, folder: Path) -> None:
    rows = client.extract(TORCH, folder / NAMES[0], "features.5").features["features.5"][0]
    np.testing.assert_allclose(found["pooled"].ravel(), rows.mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(found["pooled"], found["pooled_by_place"])
    np.testing.assert_array_equal(found["units"].ravel(), rows.ravel()[[6, 0, 99]])
    chosen = Reduction(components=3, seed=1_234_567)  # MATLAB's JSON has it as 1234567.0
    projected = client.extract(TORCH, folder / NAMES[0], "features.5", reduction=chosen)
    np.testing.assert_array_equal(found["projected"].ravel(), projected.features["features.5"][0])


def test_texts_have_pythons_values(found: dict[str, Any], client: Client) -> None:
    texts = ["a cat", "cafü"]
    rows = client.extract_texts("custom/OpenCLIP/ViT-S-32-alt@random:4", texts, batch_size=2)
    np.testing.assert_array_equal(found["texts"].squeeze().T, rows.features["text"])
    assert list(found["texts_info"]["images"]) == texts


def test_rdms_are_double_and_square_or_as_pdist(
    found: dict[str, Any], client: Client, folder: Path
) -> None:
    from scipy.spatial.distance import squareform

    reference = client.rdm(
        TORCH, folder, "features.5", metric="euclidean", dtype="float64", batch_size=2
    )
    assert found["rdm"].dtype == np.float64
    np.testing.assert_array_equal(found["rdm"], reference.rdms["features.5"])
    np.testing.assert_array_equal(squareform(found["rdm_vector"]), found["rdm"])
    assert list(found["rdm_info"]["images"]) == NAMES
    assert found["rdm_info"]["arithmetic"] == "float64"
    assert set(found["rdms"]) == {"features_3", "features_5"}


def test_declarations_of_own_models_are_checked(found: dict[str, Any]) -> None:
    assert found["declared"]["id"] == "thingsvision:InvalidRequest"
    assert "'MadeUp' is unknown" in found["declared"]["message"]


def test_listings_and_memory(found: dict[str, Any], client: Client) -> None:
    assert [one["name"] for one in found["models"]] == ["squeezenet1_0", "squeezenet1_1"]
    listed = client.modules(TORCH)
    assert [one["name"] for one in found["modules"][1:]] == [one.name for one in listed[1:]]
    assert list(found["modules"][3]["output_axes"]) == list(listed[3].output_axes)
    assert found["loaded"]["model"] == TORCH
    assert found["loaded"]["resident_bytes"] > 0
    assert found["pinned"]["pinned"] == 1
    assert found["unpinned"]["pinned"] == 0
    models = found["residency"]["models"]
    assert TORCH in [one["model"] for one in (models if isinstance(models, list) else [models])]
    assert found["freed"] > 0
    assert found["ok"] == 1, found["printed"]
    assert "All works." in found["printed"]


def test_files_have_the_same_values_and_orders(found: dict[str, Any], folder: Path) -> None:
    """h5py shows MATLAB's dimensions in reverse."""
    with h5py.File(folder.parent / "saved.mat") as file:
        maps = file["features_5"]
        assert maps.attrs["MATLAB_class"] == b"single"
        np.testing.assert_array_equal(maps[()].T, found["several"]["features_5"])
        np.testing.assert_array_equal(file["classifier_1"][()].T, found["several"]["classifier_1"])
        names = ["".join(map(chr, file[one][()].ravel())) for one in file["file_names"][()].ravel()]
        assert names == NAMES
        provenance = "".join(map(chr, file["provenance"][()].ravel()))
        assert TORCH in provenance
    squares = {"rows.mat": "rows", "native.mat": "native"}
    for name, kind in squares.items():
        with h5py.File(folder.parent / name) as file:
            assert file["features"].ndim == (2 if kind == "rows" else 4)
            maps = np.moveaxis(found["several"]["features_5"], -1, 0)
            sent = np.moveaxis(maps, -1, 1)
            wanted = sent if kind == "native" else maps.reshape(len(maps), -1, order="F")
            np.testing.assert_array_equal(file["features"][()].T, wanted)
    assert list((folder.parent / "chunks").rglob("features_0-3.npy"))


FAILURES = [
    ("UnknownModel", "Did you mean 'squeezenet1_"),
    ("UnknownModule", "'features.5'"),
    ("InvalidRequest", "There are no images"),
    ("BadImages", "image 1 ('no such folder/x.png') can't be read"),
    ("InvalidRequest", "uint8 pixels of height x width x 3"),
    ("InvalidRequest", "'BatchSise' is unknown; the valid names are BatchSize"),
    ("InvalidRequest", "`OutputAs` must be one of channels, rows, native, got 'rowz'"),
    ("UnknownAxes", "choose 'OutputAs', 'native'"),
    ("InvalidRequest", "`Metric` must be one of"),
    ("InvalidRequest", "remove it, or choose another file"),
    ("NotResident", "alexnet"),
    ("InvalidWeights", "no such file.pth"),
    ("Unavailable", "127.0.0.1:1"),
    ("InvalidRequest", "'Timeoutt' is unknown; the valid names are Server, Timeout, Proxy"),
    ("PythonNotFound", "/no/such/python"),
    ("InvalidRequest", "got 'java'"),
    ("InvalidRequest", "pairs of a name and a value"),
    ("BadImages", "broken.png') is empty (0 bytes). 'OnError', 'skip' leaves bad images out."),
    ("InvalidRequest", "got an empty name"),
    ("InvalidRequest", "cat(4, images{:})"),
    ("InvalidRequest", "'BatchSize' must have finite real numbers, got NaN"),
    ("InvalidRequest", "'BatchSize' must have finite real numbers, got 1+2i"),
    ("InvalidRequest", "got a value of class function_handle"),
    ("InvalidRequest", "'batch_size' is given twice"),
    ("InvalidRequest", "Flatten must be true or false, got 1 x 5 of class char"),
    ("InvalidRequest", "Flatten must be true or false, got 1 x 2 of class logical"),
    ("InvalidRequest", "images must be file names"),
    ("InvalidRequest", "'Timeout' must have finite real numbers, got Inf"),
    ("InvalidRequest", "The values of this call can't be sent"),  # and the next call is answered
    ("InvalidRequest", "`Units` must have a place, got []"),
    ("InvalidRequest", "`Units` must be whole numbers from 1, got 1.5"),
    ("InvalidRequest", "Dtype, Streams, AllowMixed, OutputAs, Flatten, Names, OnError"),
    ("InvalidRequest", "MemoryFormat, Compiled, Metric, Form, Names, OnError"),
    (
        "InvalidRequest",
        "must be from 1 to 93312 (it has 93,312 units, 128 x 27 x 27), got",
    ),
    ("InvalidRequest", "`PoolAxes` of module 'features.5' must be different numbers from 1 to 3"),
    ("InvalidRequest", "c.models('', 'squeezenet1_1') lists the models of this name"),
    ("InvalidRequest", "`path` must name a .mat file, got an empty text"),
    ("InvalidRequest", "`path` must end with .mat, got 'out.h5'"),
    ("Deleted", "This client was deleted: make a new one"),
    ("NoServer", "No THINGSvision server is set: give it, thingsvision.Client('host:port')"),
]


@pytest.mark.parametrize("place", range(len(FAILURES)))
def test_errors_keep_their_meaning(found: dict[str, Any], place: int) -> None:
    failure, (name, part) = found["failures"][place], FAILURES[place]
    assert failure["id"] == f"thingsvision:{name}", failure
    assert part in failure["message"]


def test_the_setup_says_what_is_missing(found: dict[str, Any]) -> None:
    assert found["not_ok"] == 0
    assert re.search(r"Server: .*127\.0\.0\.1:1.*Start one with", found["printed"])


def test_matlabs_own_python_starts_the_same_helper(
    found: dict[str, Any], references: dict[str, Extraction]
) -> None:
    """Of `py`, this is what can be tested without MATLAB: functions of the test stand for it."""
    sent = found["several"]["features_5"]
    np.testing.assert_array_equal(found["by_py"], sent)
    old, missing = found["py_problems"]
    assert old["id"] == "thingsvision:PythonTooOld"
    assert "is Python 3.8" in old["message"]
    assert missing["id"] == "thingsvision:PackageNotInstalled"
    assert "-m pip install --upgrade thingsvision-service" in missing["message"]


def test_progress_is_shown(found: dict[str, Any]) -> None:
    assert re.search(r"extracting \d+/300", str(found["progress"]))


def test_a_function_can_be_the_transport(found: dict[str, Any]) -> None:
    assert found["by_handle"] == "unloadx/y"


def test_nothing_stays(found: dict[str, Any], folder: Path) -> None:
    assert found["ok"]
    deadline = time.monotonic() + 10
    while (left := list(folder.parent.glob("oct-*"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
