"""Files are read up to what they have; what only announces more is refused before it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hostile.attacks.archives import FILES, hdf5, keras_archive, keras_config, small_weights
from thingsvision_server.errors import InvalidWeightsError
from thingsvision_server.sources.uploads.formats import check_file

WORDS = {
    "packed.pt2": r"the 7 files in it have 200,\d{3},\d{3} bytes, .* at most 67,108,864 are read",
    "shared.pt2": r"have 1,000,\d{3},\d{3} bytes",
    "config.keras": "its config.json has 60,000,004 bytes",
    "units.keras": r"`units` of layer 'd' must be the size of an axis .* has 5, got 1,000,000,000",
    "circle.weights.h5": "is a link to a group that it is in",
    "empty.weights.h5": "'/w' in it announces 4,000,000,000,000 bytes",
    "dicts.pth": "at most 2,000,000 entries",
}


@pytest.mark.parametrize("name", FILES)
def test_what_announces_more_than_it_has_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    with pytest.raises(InvalidWeightsError, match=WORDS[name]):
        check_file(path, name)


def _tied(file: Any) -> None:
    """Write an array and a group that each have two names, as tied weights do."""
    small_weights(file)
    file["other"] = file["layers/dense"]
    file["tied"] = file["layers/dense/vars/0"]


def _packed(file: Any) -> None:
    file.create_dataset("w", data=np.zeros((3000, 3000), np.float32), compression="gzip")


def _unwritten(file: Any) -> None:
    """Write arrays of nothing, and of the zeros that HDF5 has for what was never written."""
    small_weights(file)
    file.create_dataset("none", (0, 5), np.float32)
    file.create_dataset("zeros", (10, 10), np.float32)


TAKEN: Mapping[str, Callable[[], bytes]] = {
    "tied.weights.h5": lambda: hdf5(_tied),
    "packed.weights.h5": lambda: hdf5(_packed),
    "unwritten.weights.h5": lambda: hdf5(_unwritten),
    "packed.keras": lambda: keras_archive(
        keras_config(units=5), hdf5(small_weights), is_packed=True
    ),
    "small.keras": lambda: keras_archive(keras_config(units=5), hdf5(small_weights)),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_has_what_it_announces_is_taken(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(TAKEN[name]())
    assert check_file(path, name) == ("keras" if name.endswith("keras") else "hdf5")


def test_a_config_of_megabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    path.write_bytes(keras_archive(b" " * 17_000_000, hdf5(small_weights), is_packed=True))
    with pytest.raises(InvalidWeightsError, match=r"config.json has 17,000,000 bytes, and at most"):
        check_file(path, "net.keras")
    with h5py.File(tmp_path / "net.h5", "w", track_order=True) as file:
        small_weights(file)
        file.attrs["model_config"] = " " * 17_000_000
    with pytest.raises(InvalidWeightsError, match="model_config has 17,000,000 bytes"):
        check_file(tmp_path / "net.h5", "net.h5")
