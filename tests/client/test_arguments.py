"""Arguments of every kind that scripts pass: taken as what they mean, or refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from thingsvision_client import (
    Client,
    DataLoader,
    HDF5Dataset,
    ImageDataset,
    center_features,
    compute_rdm,
    correlate_rdms,
    get_cka,
    get_extractor,
    merge_features,
    normalize_features,
    plot_rdm,
    read_origin,
    save_features,
    split_features,
)
from thingsvision_client.analysis.references import as_references
from thingsvision_client.core.features import compress_features
from thingsvision_client.errors import InvalidRequestError, UndefinedDistanceWarning
from thingsvision_client.library.extractor import Extractor

ROWS = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
MODEL = "torchvision/squeezenet1_0@random:0"
ROUNDED = torch.tensor(ROWS).bfloat16()

SAME: dict[str, tuple[Any, Any]] = {
    "bfloat16": (ROUNDED, ROUNDED.float().numpy()),
    "gradients": (torch.tensor(ROWS, requires_grad=True), ROWS),
    "both": (ROUNDED.clone().requires_grad_(), ROUNDED.float().numpy()),
    "float16": (ROWS.astype("f2"), ROWS.astype("f2")),
    "sparse": (torch.tensor(ROWS).to_sparse(), ROWS),
    "sparse of scipy": (scipy.sparse.csr_matrix(ROWS), ROWS),
    "a list of tensors": (list(torch.tensor(ROWS, requires_grad=True)), ROWS),
    "lists": (ROWS.tolist(), ROWS),
    "objects": (ROWS.astype(object), ROWS),
    "a table": (pd.DataFrame(ROWS), ROWS),
    "a table of objects": (pd.DataFrame(ROWS).astype(object), ROWS),
    "nothing masked": (np.ma.array(ROWS, mask=False), ROWS),
}

REFUSED: dict[str, Any] = {
    "masked": np.ma.array(ROWS, mask=ROWS > 1),
    "texts": ROWS.astype(str),
    "bytes": ROWS.astype("S"),
    "None": None,
    "complex": ROWS.astype(complex),
    "a complex tensor": torch.tensor(ROWS).to(torch.complex64).conj(),
    "a number": np.float64(3),
    "one row": ROWS[0],
    "dates": ROWS.astype("M8[s]"),
    "ragged": [[1, 2], [3]],
    "a text": "abc",
    "a path": Path("x"),
    "nothing": ROWS[:0],
    "records": np.zeros(6, [("a", "f4")]),
}


@pytest.mark.parametrize("kind", SAME)
def test_features_of_any_kind_are_their_numbers(kind: str, client: Client, tmp_path: Path) -> None:
    given, values = SAME[kind]
    expected = compute_rdm(values.astype("float64"))
    np.testing.assert_allclose(compute_rdm(given), expected, rtol=1e-9, atol=1e-12)
    found = client.rdm_of(given, dtype="float64").rdms["features"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    for function in (center_features, normalize_features):
        np.testing.assert_allclose(function(given), function(values), rtol=1e-2, atol=1e-3)
    assert get_cka("numpy", m=6).compare(given, values) == pytest.approx(1)
    if "objects" not in kind:
        save_features(given, tmp_path, "npy")
        np.testing.assert_array_equal(merge_features(tmp_path, "npy"), values)


@pytest.mark.parametrize("kind", REFUSED)
def test_features_that_are_not_numbers_of_images_are_refused(
    kind: str, client: Client, tmp_path: Path
) -> None:
    given = REFUSED[kind]
    with pytest.raises(InvalidRequestError, match=r"must|can't be"):
        compute_rdm(given)
    with pytest.raises(InvalidRequestError, match=r"must|can't be"):
        normalize_features(given)
    with pytest.raises(InvalidRequestError, match=r"must|can't be"):
        compress_features(given)
    with pytest.raises(InvalidRequestError, match=r"must|can't be"):
        client.rdm_of(given)
    with pytest.raises(InvalidRequestError, match=r"must|can't be"):
        get_cka("numpy", m=6).compare(given, ROWS)
    with pytest.raises(InvalidRequestError, match=r"must|can't be"):
        plot_rdm(tmp_path, given)


def test_values_that_are_not_finite_never_become_numbers(client: Client) -> None:
    for bad in (np.nan, np.inf):
        rows = np.where(np.arange(6)[:, None] == 2, bad, ROWS)
        with pytest.warns(UndefinedDistanceWarning, match=r"\[2\]"):
            assert np.isnan(compute_rdm(rows)[2]).all()
        with pytest.warns(UndefinedDistanceWarning):
            assert np.isnan(client.rdm_of(rows).rdms["features"][2]).all()
        with pytest.raises(InvalidRequestError, match=r"must be finite .* rows \[2\]"):
            compress_features(rows)


def test_masked_pairs_of_a_reference_are_left_out() -> None:
    rdm = compute_rdm(ROWS)
    mask = np.zeros((6, 6), bool)
    mask[1, 4] = mask[4, 1] = True
    with pytest.warns(UndefinedDistanceWarning, match="1 of 15 pairs"):
        found = as_references(np.ma.array(rdm, mask=mask))[0]
    assert np.isnan(found.rdms[0, 1, 4])
    with pytest.raises(InvalidRequestError, match="masked values, got 2"):
        correlate_rdms(np.ma.array(rdm, mask=mask), rdm)


def wrong_calls() -> list[tuple[Any, str]]:
    calls: list[tuple[Any, str]] = [
        (lambda: compute_rdm(ROWS, ["cosine"]), "`method` must be a text.*`cosine`"),
        (
            lambda: correlate_rdms(ROWS[:, :6], ROWS[:, :6], None),
            "`correlation` must be a text.*`spearman`",
        ),
        (lambda: split_features(ROWS, "x", "npy", 2.5), "`n_splits` must be a whole number"),
        (lambda: split_features(ROWS, "x", "npy", True), "`n_splits` must be a whole number"),
        (lambda: save_features(ROWS, 3, "npy"), "`out_path` must be a path, got 3"),
        (lambda: save_features(ROWS, "x", ["npy"]), "`file_format` must be a text.*`npy`"),
        (lambda: merge_features(None, "npy"), "`root` must be a path, got None"),
        (lambda: compress_features(ROWS, retained_var="all"), "`retained_var` must be a number"),
        (lambda: get_cka("numpy", m="6"), "`m` must be a whole number"),
        (lambda: get_cka("numpy", m=6, sigma="wide"), "`sigma` must be a number"),
        (lambda: plot_rdm("x", ROWS, colormap=["x"]), "`colormap` must be a text"),
        (lambda: as_references(compute_rdm(ROWS), "abcdef"), "`reference_images` must be a list"),
        (lambda: read_origin(3), "`path` must be a path"),
        (lambda: HDF5Dataset(3, "x", "pt"), "`hdf5_fp` must be a path"),
        (lambda: HDF5Dataset("x", 3, "pt"), "`img_ds_key` must be a text"),
        (lambda: ImageDataset(b"x", "x", "pt"), "`root` must be a path"),
        (lambda: get_extractor(3, False, None, "torchvision"), "`model_name` must be a text"),
        (
            lambda: get_extractor("alexnet", False, None, "torchvision", None, ["seed"]),
            "`model_parameters` must be a mapping",
        ),
    ]
    return calls


@pytest.mark.parametrize(("call", "message"), wrong_calls())
def test_wrong_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        call()


def test_a_home_is_expanded_in_every_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: Client, photos: list[Path]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    copyfile(photos[0], tmp_path / "photos" / "cat.png")
    save_features(ROWS, "~/saved", "npy", names=list("abcdef"))
    split_features(Path("~/split"), ROWS, "npy", 2)
    np.testing.assert_array_equal(merge_features("~/saved", "npy"), ROWS)
    np.testing.assert_array_equal(merge_features(Path("~/split"), "npy"), ROWS)
    assert read_origin("~/saved/features.npy")["file"] == "features.npy"
    plot_rdm("~/plots", ROWS)
    assert ImageDataset("~/photos", "~/names", "pt").names == ["cat.png"]
    assert client.extract(MODEL, "~/photos", "features.3").images == ["cat.png"]
    assert len(client.extract(MODEL, ["~/photos/cat.png"], "features.3").images) == 1
    made = {path.name for path in tmp_path.iterdir()}
    assert {"photos", "saved", "split", "plots", "names"} <= made
    assert "~" not in made


def test_a_file_is_not_a_folder(tmp_path: Path, photos: list[Path]) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    message = r"`(out_path|root|PATH)` must be a folder, got '.*notes.txt.*': .*notes.txt is a file"
    calls: list[Any] = [
        lambda: save_features(ROWS, file, "npy"),
        lambda: save_features(ROWS, file / "below", "npy"),
        lambda: split_features(file, ROWS, "npy", 2),
        lambda: plot_rdm(file, ROWS),
        lambda: ImageDataset(photos[0].parent, file, "pt"),
    ]
    for call in calls:
        with pytest.raises(InvalidRequestError, match=message):
            call()
    assert file.read_text() == "mine"


def test_swapped_arguments_are_told_their_order() -> None:
    with pytest.raises(
        InvalidRequestError,
        match=r"`out_path` must be a path, got an? ndarray of "
        r"shape \(6, 8\).*order of the arguments is out_path, X, method",
    ):
        plot_rdm(ROWS, "x")  # type: ignore[arg-type]


def test_warnings_point_to_the_users_line() -> None:
    with pytest.warns(UndefinedDistanceWarning) as caught:
        compute_rdm(np.zeros((3, 4)))
    assert Path(caught[0].filename).name == Path(__file__).name


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    split_features(ROWS, tmp_path, np.str_("npy"), np.int64(2))
    np.testing.assert_array_equal(merge_features(tmp_path, "npy"), ROWS)
    assert get_cka("numpy", m=np.int64(6), kernel="rbf", sigma=np.float32(1)).m == 6


def test_a_dataset_that_is_a_single_value_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "stimuli.h5", "w") as file:
        file["count"] = 3
    with pytest.raises(InvalidRequestError, match=r"'count' in .* must be uint8 images"):
        HDF5Dataset(tmp_path / "stimuli.h5", "count", "pt")
    with pytest.raises(InvalidRequestError, match="is a single value, not an array"):
        as_references(tmp_path / "stimuli.h5")


@pytest.fixture
def extractor(client: Client, monkeypatch: pytest.MonkeyPatch) -> Extractor:
    monkeypatch.setenv("THINGSVISION_SERVER", client.server)
    return get_extractor("squeezenet1_0", pretrained=False, device=None, source="torchvision")


@pytest.fixture
def batches(photos: list[Path], tmp_path: Path) -> DataLoader:
    names = [path.name for path in photos[:2]]
    dataset = ImageDataset(photos[0].parent, tmp_path, "pt", file_names=names)
    return DataLoader(dataset, np.int64(2), "pt")


def test_names_of_modules_may_be_of_any_kind(
    extractor: Extractor, client: Client, batches: DataLoader, photos: list[Path], tmp_path: Path
) -> None:
    wanted = ["features.3", "features.4"]
    expected = extractor.extract_features(batches, module_names=wanted)
    kinds: list[Any] = [np.array(wanted), pd.Series(wanted), iter(wanted)]
    for names in kinds:
        found = extractor.extract_features(batches, module_names=names)
        assert list(found) == wanted
        np.testing.assert_array_equal(found["features.4"], expected["features.4"])
    one = extractor.extract_features(batches, module_name=np.array(wanted)[0])
    np.testing.assert_array_equal(one, expected["features.3"])
    assert list(client.extract(MODEL, photos[:1], np.array(wanted)).features) == wanted
    folder = tmp_path / "chunks"
    extractor.extract_features(batches, "features.3", output_dir=folder, step_size=np.int64(1))
    assert list(folder.rglob("*.npy"))


def test_names_of_modules_that_are_not_texts_are_refused(
    extractor: Extractor, client: Client, batches: DataLoader, photos: list[Path]
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"module_names": [float("nan")]}, "`module_names` must be texts, got nan"),
        ({"module_names": [b"features.3"]}, "`module_names` must be texts, got b'features.3'"),
        ({"module_names": 3}, "`module_names` must be a list"),
        ({"module_names": np.array([])}, "must be at least one, each named once"),
        ({"module_name": ["features.3"]}, "`module_name` must be a text"),
        ({"module_name": float("nan")}, "`module_name` must be a text"),
        ({"module_name": "features.3", "output_dir": 3}, "`output_dir` must be a path"),
        ({"module_name": "features.3", "output_dir": "x", "step_size": 1.5}, "a whole number"),
    ]
    for options, message in wrong:
        with pytest.raises(InvalidRequestError, match=message):
            extractor.extract_features(batches, **options)
    for model in (None, 3, b"torchvision/alexnet"):
        with pytest.raises(InvalidRequestError, match="`model` must be a Model or a text"):
            client.extract(model, photos[:1], "features.3")
    for size in (2.0, "2", True, float("nan")):
        with pytest.raises(InvalidRequestError, match="`batch_size` must be a whole number"):
            client.extract(MODEL, photos[:1], "features.3", batch_size=size)


@pytest.mark.parametrize(
    ("features", "advice"),
    [
        (ROWS[0], r"features\[None\] is one image, and features\[:, None\] is one unit"),
        (ROWS.reshape(6, 2, 2, 2), r"flatten them with features.reshape\(len\(features\), -1\)"),
        (ROWS[:0], "give a row for each image|at least one image"),
    ],
)
def test_the_advice_fits_the_shape(features: Any, advice: str) -> None:
    with pytest.raises(InvalidRequestError, match=advice):
        compute_rdm(features)
    with pytest.raises(InvalidRequestError, match=advice):
        compress_features(features)


@pytest.mark.parametrize("names", [[float("nan")], [b"x.png"], [None], [3], "x.png", 3])
def test_names_of_files_that_are_not_texts_are_refused(
    names: Any, photos: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequestError, match="`file_names` must be"):
        ImageDataset(photos[0].parent, tmp_path, "pt", file_names=names)
