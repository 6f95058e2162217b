from pathlib import Path

import numpy as np
import pytest

from thingsvision_client import save_features
from thingsvision_client.errors import InvalidRequestError

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
