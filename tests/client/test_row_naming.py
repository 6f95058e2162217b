"""Rows of files have the names of their images only if it is known which images they are."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch
import xarray as xr
from typer.testing import CliRunner

from thingsvision_client import (
    Client,
    center_features,
    get_extractor,
    load_batches,
    merge_features,
    normalize_features,
    origin_of,
    save_features,
    split_features,
)
from thingsvision_client.cli import app
from thingsvision_client.core.features import compress_features
from thingsvision_client.errors import InvalidRequestError, UnnamedRowsWarning
from thingsvision_client.formats import FORMATS
from thingsvision_client.labels import known_rows, remember_rows
from thingsvision_client.utils.storing import store_features

NAMES = [f"{row:03d}.png" for row in range(1, 8)]
NUMBERS = [f"row_{row:06d}" for row in range(7)]
MODEL = "torchvision/squeezenet1_0@random:0"
STORING = ["hdf5", "mat", "parquet"]


def make(*shape: int) -> Any:
    values = np.random.default_rng(3).normal(size=(7, *(shape or (4,)))).astype("float32")
    remember_rows(values, NAMES)
    return values


def names_in(folder: Path, file_format: str = "hdf5", name: str = "features") -> list[str]:
    kind = FORMATS[file_format]
    found = kind.read_names(folder / f"{name}.{kind.suffix}")
    assert found is not None
    return list(found)


def shuffle_in_place(array: Any) -> Any:
    np.random.default_rng(0).shuffle(array)
    return array


def reverse_in_place(array: Any) -> Any:
    array[:] = array[::-1].copy()
    return array


def sort_in_place(array: Any) -> Any:
    array.sort(axis=0)
    return array


UNKNOWN: dict[str, Callable[[Any], Any]] = {
    "reversed": lambda array: array[::-1],
    "chosen": lambda array: array[[2, 0, 1, 3, 4, 5, 6]],
    "every second": lambda array: array[::2],
    "of a mask": lambda array: array[array[:, 0] > 0],
    "sorted": lambda array: np.sort(array, axis=0),
    "joined": lambda array: np.concatenate([array[3:], array[:3]]),
    "repeated": lambda array: np.repeat(array, 2, axis=0),
    "rolled": lambda array: np.roll(array, 1, axis=0),
    "transposed": lambda array: array.T,
    "reshaped": lambda array: array.reshape(14, 2),
    "another type": lambda array: array.astype("float64"),
    "scaled": lambda array: array * 2,
    "shuffled in place": shuffle_in_place,
    "reversed in place": reverse_in_place,
    "sorted in place": sort_in_place,
    "pickled, then reversed": lambda array: pickle.loads(pickle.dumps(array))[::-1],
    "a slice of the shuffled": lambda array: shuffle_in_place(array)[2:5],
    "a reversed tensor": lambda array: torch.from_numpy(array).flip(0),
    "averages": lambda array: array.mean(axis=0, keepdims=True),
}

KNOWN: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "itself": (lambda array: array, NAMES),
    "a slice": (lambda array: array[2:5], NAMES[2:5]),
    "one row": (lambda array: array[2:3], NAMES[2:3]),
    "flat": (lambda array: array.reshape(7, -1), NAMES),
    "a tensor": (torch.from_numpy, NAMES),
    "of a tensor": (lambda array: torch.from_numpy(array)[1:].numpy(), NAMES[1:]),
    "pickled": (lambda array: pickle.loads(pickle.dumps(array)), NAMES),
    "copied": (copy.deepcopy, NAMES),
    "reversed twice": (lambda array: array[::-1][::-1], NAMES),
    "centred": (center_features, NAMES),
    "centred slice": (lambda array: center_features(array[3:]), NAMES[3:]),
    "normalized": (normalize_features, NAMES),
    "normalized tensor": (lambda array: normalize_features(torch.from_numpy(array)), NAMES),
    "compressed": (compress_features, NAMES),
    "both": (lambda array: normalize_features(center_features(array)), NAMES),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_rows_that_are_not_known_are_numbered(what: str, tmp_path: Path) -> None:
    (tmp_path / "file_names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    features = UNKNOWN[what](make())
    with pytest.warns(UnnamedRowsWarning, match="features.hdf5 are, .* names="):
        save_features(features, tmp_path, "hdf5")
    assert names_in(tmp_path) == [f"row_{row:06d}" for row in range(len(features))]
    with h5py.File(tmp_path / "features.hdf5") as file:
        np.testing.assert_array_equal(file["features"][()], features)


@pytest.mark.parametrize("what", KNOWN)
def test_rows_that_are_known_have_their_names(what: str, tmp_path: Path) -> None:
    change, expected = KNOWN[what]
    array = make()
    save_features(change(array), tmp_path, "hdf5")
    assert names_in(tmp_path) == expected


@pytest.mark.parametrize("file_format", STORING)
def test_names_are_where_other_programs_read_them(file_format: str, tmp_path: Path) -> None:
    def read() -> list[str]:
        if file_format == "mat":
            cells = scipy.io.loadmat(tmp_path / "features.mat")["file_names"]
            return [cell[0][0] for cell in cells]
        if file_format == "parquet":
            return list(pq.read_table(tmp_path / "features.parquet")["image"].to_pylist())
        with h5py.File(tmp_path / "features.hdf5") as file:
            return list(file["file_names"].asstr()[()])

    features = make()
    save_features(features, tmp_path, file_format)
    assert read() == NAMES
    with pytest.warns(UnnamedRowsWarning):
        save_features(features[::-1], tmp_path, file_format)
    assert read() == NUMBERS
    save_features(features[::-1], tmp_path, file_format, names=NAMES[::-1])
    assert read() == NAMES[::-1]


@pytest.mark.parametrize("file_format", STORING)
def test_all_modules_must_have_the_same_rows(file_format: str, tmp_path: Path) -> None:
    one, two = make(), make(2, 3)
    save_features({"fc": one, "conv": two}, tmp_path, file_format)
    assert names_in(tmp_path, file_format) == NAMES
    with pytest.warns(UnnamedRowsWarning):
        save_features({"fc": one, "conv": two[::-1]}, tmp_path, file_format)
    assert names_in(tmp_path, file_format) == NUMBERS
    other = make()
    remember_rows(other, NAMES[::-1])
    with pytest.warns(UnnamedRowsWarning):
        save_features({"fc": one, "conv": other}, tmp_path, file_format)
    assert names_in(tmp_path, file_format) == NUMBERS


def test_equal_rows_could_have_changed_places(tmp_path: Path) -> None:
    array = np.zeros((7, 3), "float32")
    remember_rows(array, NAMES)
    for moved in (array[::-1], array.copy()):
        with pytest.warns(UnnamedRowsWarning):
            save_features(moved, tmp_path, "hdf5")
    save_features(array, tmp_path, "hdf5")
    assert names_in(tmp_path) == NAMES


def test_memory_is_that_of_the_rows_whatever_owns_it() -> None:
    view = np.asfortranarray(np.arange(12.0).reshape(3, 4)).T  # its owner is in another order
    remember_rows(view, list("abcd"))
    known = known_rows(view[1:])
    assert known is not None
    assert known.names == tuple("bcd")


def test_files_that_are_mapped_into_memory_are_copies(tmp_path: Path) -> None:
    array = make()
    np.save(tmp_path / "own.npy", array)
    mapped = np.load(tmp_path / "own.npy", mmap_mode="r")
    save_features(mapped, tmp_path, "hdf5")
    assert names_in(tmp_path) == NAMES
    with pytest.warns(UnnamedRowsWarning):
        save_features(mapped[::-1], tmp_path, "hdf5")


@pytest.mark.parametrize("file_format", FORMATS)
def test_split_and_merged_rows_keep_their_names(file_format: str, tmp_path: Path) -> None:
    array = make()
    split_features(array, tmp_path / "known", file_format, 3)
    split_features(array[::-1].copy(), tmp_path / "given", file_format, 3, names=NAMES[::-1])
    del array
    for folder, names in (("known", NAMES), ("given", NAMES[::-1])):
        merged = merge_features(tmp_path / folder, file_format)
        save_features(merged, tmp_path / "again", "hdf5")
        assert names_in(tmp_path / "again") == names
        save_features(merge_features(tmp_path / "again", "hdf5"), tmp_path / "whole", "mat")
        assert names_in(tmp_path / "whole", "mat") == names


def test_pieces_that_were_replaced_have_no_names(tmp_path: Path) -> None:
    split_features(make(), tmp_path, "npy", 2)
    (tmp_path / "features.npy.pieces.json").unlink()
    np.save(tmp_path / "features_02.npy", np.ones((3, 4), "float32"))
    with pytest.warns(UnnamedRowsWarning):
        save_features(merge_features(tmp_path, "npy"), tmp_path / "again", "hdf5")


def test_pieces_of_unknown_rows_are_numbered_as_one(tmp_path: Path) -> None:
    with pytest.warns(UnnamedRowsWarning) as caught:
        split_features(make()[::-1], tmp_path, "parquet", 2)
    assert len(caught) == 1
    assert names_in(tmp_path, "parquet", "features_02") == NUMBERS[4:]
    with pytest.warns(UnnamedRowsWarning):
        save_features(merge_features(tmp_path, "parquet"), tmp_path, "hdf5")


def test_formats_without_names_have_given_names_in_their_metadata(tmp_path: Path) -> None:
    save_features(make()[::-1], tmp_path, "npy", names=NAMES[::-1])
    document = json.loads((tmp_path / "features.npy.json").read_text())
    assert document["names"] == NAMES[::-1]
    save_features(make()[::-1], tmp_path, "npy")  # there is nothing to warn of
    assert "names" not in json.loads((tmp_path / "features.npy.json").read_text())


def test_variables_of_images_are_numbered_as_well(tmp_path: Path) -> None:
    features = make()
    store_features(tmp_path, features, "mat")
    assert "x001" in scipy.io.loadmat(tmp_path / "features.mat")
    with pytest.warns(UnnamedRowsWarning):
        store_features(tmp_path, features[::-1], "mat")
    content = scipy.io.loadmat(tmp_path / "features.mat")
    np.testing.assert_array_equal(content["row_000000"][0], features[-1])
    store_features(tmp_path, features[::-1], "mat", names=NAMES[::-1])
    content = scipy.io.loadmat(tmp_path / "features.mat")
    np.testing.assert_array_equal(content["x007"][0], features[-1])


def test_names_may_be_of_any_kind_but_must_be_there(tmp_path: Path) -> None:
    features = make()[::-1]
    kinds: list[Any] = [
        tuple(NAMES), np.array(NAMES), np.array(NAMES, object), pd.Series(NAMES), pd.Index(NAMES),
        [Path(name) for name in NAMES], [name.encode() for name in NAMES], iter(NAMES),
        (name for name in NAMES),
    ]  # fmt: skip
    for names in kinds:
        save_features(features, tmp_path, "hdf5", names=names)
        assert names_in(tmp_path) == NAMES
    wrong: list[tuple[Any, str]] = [
        (NAMES[1:], r"a name per row \(7\), got 6 names"),
        ("001.png", "must be a list or None, got '001.png'"),
        (set(NAMES), "must be a list with a name per row, got {"),
        ([*NAMES[:-1], None], "got None for row 6"),
        ([float("nan"), *NAMES[1:]], "got nan for row 0"),
    ]
    for names, message in wrong:
        with pytest.raises(InvalidRequestError, match=message):
            save_features(features, tmp_path, "npy", names=names)


def test_tables_bring_their_names(tmp_path: Path) -> None:
    values = make()[::-1].copy()
    save_features(pd.DataFrame(values, index=NAMES[::-1]), tmp_path, "hdf5")
    assert names_in(tmp_path) == NAMES[::-1]
    array = xr.DataArray(values, {"image": NAMES[::-1]}, ["image", "unit"])
    save_features({"fc": array}, tmp_path, "parquet")
    assert names_in(tmp_path, "parquet") == NAMES[::-1]
    with pytest.warns(UnnamedRowsWarning):
        save_features(pd.DataFrame(values), tmp_path, "hdf5")


@pytest.mark.filterwarnings("ignore:.* was replaced")
def test_extracted_rows_are_known(
    client: Client, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(path) for path in photos]
    found = client.extract(MODEL, photos, ["features.3", "classifier.3"])
    again = pickle.loads(pickle.dumps(found))
    for one in (found, found.flattened(), again, copy.deepcopy(found), copy.copy(found)):
        save_features(one.features, tmp_path, "hdf5")
        assert names_in(tmp_path) == names
    del found
    save_features(again.features["classifier.3"], tmp_path, "mat")
    assert names_in(tmp_path, "mat") == names
    assert client.rdm_of(again.features).images == names

    monkeypatch.setenv("THINGSVISION_SERVER", client.server)
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos:
        (folder / path.name).symlink_to(path)
    files = sorted(path.name for path in photos)
    extractor = get_extractor("squeezenet1_0", pretrained=False, device=None, source="torchvision")
    batches = load_batches(folder, tmp_path / "out", "pt", batch_size=2)
    for options in ({}, {"flatten_acts": True}, {"output_type": "tensor"}):
        features = extractor.extract_features(batches, "features.3", **options)
        save_features(features, tmp_path / "out", "hdf5")
        assert names_in(tmp_path / "out") == files
    assert origin_of(features.numpy()) is not None
    assert origin_of(features.numpy().copy()) is None
    with pytest.warns(UnnamedRowsWarning, match=r"such as the lines of .*file_names\.txt"):
        save_features(features.flip(0), tmp_path / "out", "hdf5")
    features += 1
    with pytest.warns(UnnamedRowsWarning):
        save_features(features, tmp_path / "out", "hdf5")


def test_ready_inputs_have_no_names(client: Client, tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype("float32")
    features = client.extract(MODEL, inputs, "features.3").features["features.3"]
    with pytest.warns(UnnamedRowsWarning):
        save_features(features, tmp_path, "hdf5")
    named = list(zip(["x", "y", "z"], inputs, strict=True))
    features = client.extract(MODEL, named, "features.3").features["features.3"]
    tmp_path /= "named"
    save_features(features, tmp_path, "hdf5")
    assert names_in(tmp_path) == ["x", "y", "z"]


def test_a_command_converts_files_with_their_names(tmp_path: Path) -> None:
    def convert(*arguments: str | Path) -> Any:
        command = ["convert-features", *map(str, arguments)]
        return CliRunner().invoke(app, command, env={"COLUMNS": "200"})

    features, out = make(), tmp_path / "out"
    save_features(features, tmp_path, "npy")
    target = ["--out-path", out, "--file-format", "hdf5"]
    assert convert(tmp_path / "features.npy", *target).exit_code == 0
    assert names_in(out) == NAMES
    np.save(tmp_path / "own.npy", features[::-1])
    assert "--overwrite" in str(convert(tmp_path / "own.npy", *target).exception)
    assert names_in(out) == NAMES
    target.append("--overwrite")
    with pytest.warns(UnnamedRowsWarning):
        assert convert(tmp_path / "own.npy", *target).exit_code == 0
    assert names_in(out) == NUMBERS
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{name}\n" for name in NAMES[::-1]))
    assert convert(tmp_path / "own.npy", *target, "--names", names).exit_code == 0
    assert names_in(out) == NAMES[::-1]
    np.testing.assert_array_equal(merge_features(out, "hdf5"), features[::-1])
    again = convert(out / "features.hdf5", "--out-path", tmp_path / "mat", "--file-format", "mat")
    assert again.exit_code == 0
    assert names_in(tmp_path / "mat", "mat") == NAMES[::-1]
    assert "another folder" in str(convert(out / "features.hdf5", *target).exception)
    names.write_text("one\n")
    wrong = convert(tmp_path / "own.npy", *target, "--names", names)
    assert "a name per row (7), got 1" in str(wrong.exception)


def test_numbers_of_rows_are_not_names(tmp_path: Path) -> None:
    table = pd.DataFrame(make())
    for moved in (table.sort_values(0), table[::2], table.sample(frac=0.5, random_state=0)):
        with pytest.warns(UnnamedRowsWarning):
            save_features(moved, tmp_path, "hdf5")
        assert names_in(tmp_path) == [f"row_{row:06d}" for row in range(len(moved))]
    numbers = pd.Index(range(100, 100 + len(table)), name="image_id")
    save_features(table.set_index(numbers), tmp_path, "hdf5")
    assert names_in(tmp_path) == [str(number) for number in numbers]


def test_names_are_a_text_per_row_and_agree_with_known_ones(tmp_path: Path) -> None:
    values = make()
    for given in (np.array(NAMES)[:, None], pd.DataFrame({"file": NAMES})):
        save_features(values.copy(), tmp_path, "hdf5", names=given)
        assert names_in(tmp_path) == NAMES
    for wrong in ([[name] for name in NAMES], dict.fromkeys(NAMES), np.array([NAMES, NAMES]).T):
        with pytest.raises(InvalidRequestError, match="`names` must"):
            save_features(values.copy(), tmp_path, "hdf5", names=wrong)
    for carrying in (pd.DataFrame(values.copy(), index=NAMES), remembered()):
        with pytest.raises(InvalidRequestError, match=r"`names` must agree .* another order"):
            save_features(carrying, tmp_path, "hdf5", names=NAMES[::-1])
        save_features(carrying, tmp_path, "hdf5", names=[f"x{name}" for name in NAMES])


def remembered() -> np.ndarray:
    values = make()
    remember_rows(values, NAMES)
    return values
