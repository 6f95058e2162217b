from pathlib import Path

import numpy as np
import pytest

from thingsvision_client import save_features
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.utils.storing import file_stem

ARRAY = np.arange(24, dtype="float32").reshape(2, 3, 4)


def test_npy(tmp_path: Path) -> None:
    save_features(ARRAY, tmp_path / "new/folder", "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "new/folder/features.npy"), ARRAY)


def test_npz_keeps_every_name(tmp_path: Path) -> None:
    features = {"features.1": ARRAY, "file": ARRAY + 1, "block/conv": ARRAY + 2, "": ARRAY + 3}
    save_features(features, tmp_path, "npz")
    with np.load(tmp_path / "features.npz", allow_pickle=False) as loaded:
        assert list(loaded) == list(features)
        for name, array in features.items():
            np.testing.assert_array_equal(loaded[name], array)


def test_a_single_array_as_npz(tmp_path: Path) -> None:
    save_features(ARRAY, tmp_path, "npz")
    with np.load(tmp_path / "features.npz") as loaded:
        np.testing.assert_array_equal(loaded["features"], ARRAY)


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    save_features(ARRAY, tmp_path, "npy")
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        save_features(np.array([{}, None]), tmp_path, "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), ARRAY)
    assert [path.name for path in tmp_path.iterdir()] == ["features.npy"]


def test_wrong_formats_name_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="valid: npy, npz"):
        save_features(ARRAY, tmp_path, "mat")
    with pytest.raises(InvalidRequestError, match="npz"):
        save_features({"a": ARRAY, "b": ARRAY}, tmp_path, "npy")


def test_every_module_has_a_file_name_of_its_own() -> None:
    names = ["block/conv", "block_conv", "block:conv", "block%2Fconv", "V2.output@t=3", "a\n", ""]
    stems = [file_stem(name) for name in names]
    assert stems[:2] == ["block%2Fconv", "block_conv"]
    assert stems[4:] == ["V2.output@t=3", "a%0A", "(model)"]
    assert len(set(stems)) == len(names)
    assert not set('<>:"/\\|?*\n') & set("".join(stems))


def test_names_of_steps_and_paths_survive_an_archive(tmp_path: Path) -> None:
    features = {"V2.output@all": ARRAY, "outer/inner": ARRAY + 1, "a:b": ARRAY + 2}
    save_features(features, tmp_path, "npz")
    with np.load(tmp_path / "features.npz") as loaded:
        assert {name: array.tolist() for name, array in loaded.items()} == {
            name: array.tolist() for name, array in features.items()
        }
