"""The script for the 92 images writes the files of the page from files such as rsatoolbox has."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.spatial.distance import squareform

from support.checkout import CHECKOUT

convert = runpy.run_path(str(CHECKOUT / "examples" / "rsa92.py"))["convert"]
COUNT = 5


def rdm(seed: int) -> np.ndarray:
    return squareform(np.random.default_rng(seed).random(COUNT * (COUNT - 1) // 2))


def struct(**fields: list[object]) -> np.ndarray:
    """Return a row of MATLAB's structs with these fields."""
    kind = [(name, object) for name in fields]
    made = np.empty((1, len(next(iter(fields.values())))), kind)
    for name, values in fields.items():
        for place, value in enumerate(values):
            made[name][0, place] = value
    return made


@pytest.mark.parametrize("shape", ["square", "triangle"])
def test_images_rdms_and_categories_are_written(tmp_path: Path, shape: str) -> None:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (COUNT, 7, 7, 3), np.uint8))
    flags = {
        name: list(rng.integers(0, 2, COUNT)) for name in ("human", "face", "animal", "natural")
    }
    stored = (lambda one: one) if shape == "square" else (lambda one: squareform(one)[None])
    savemat(
        tmp_path / "Kriegeskorte_Neuron2008_supplementalData.mat",
        {
            "stimuli_92objs": struct(image=images, **flags),
            "RDMs_mIT_hIT_fig1": struct(RDM=[stored(rdm(1)), stored(rdm(2))], name=["m", "h"]),
        },
    )
    judged = struct(RDM=[stored(rdm(3)), stored(rdm(4))], name=["a", "b"])
    savemat(tmp_path / "92_behavRDMs.mat", {"rdms_behav_92": judged})
    target = tmp_path / "rsa92"
    convert(tmp_path, target)
    assert (np.load(target / "monkey_it.npy") == rdm(1)).all()
    assert (np.load(target / "human_it.npy") == rdm(2)).all()
    assert np.allclose(np.load(target / "behaviour.npy"), (rdm(3) + rdm(4)) / 2, rtol=1e-15)
    for number, pixels in enumerate(images, 1):
        assert (np.asarray(Image.open(target / "stimuli" / f"{number:03d}.png")) == pixels).all()
    with (target / "categories.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"{number:03d}.png" for number in range(1, COUNT + 1)]
    for name, values in flags.items():
        assert [int(row[name]) for row in rows] == values


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no Kriegeskorte_\S+\.mat in .*92imageData"):
        convert(tmp_path, tmp_path / "rsa92")
    assert not list(tmp_path.iterdir())
