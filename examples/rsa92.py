"""Converts the 92 object images and their RDMs, as rsatoolbox has them, for the page on RSA.

git clone --depth 1 https://github.com/rsagroup/rsatoolbox
python examples/rsa92.py rsatoolbox/demos/92imageData rsa92
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import loadmat
from scipy.spatial.distance import squareform

CATEGORIES = ("human", "face", "animal", "natural")


def square(rdm: Any) -> Any:
    """Return an RDM as images x images, float64; files also have the upper triangle alone."""
    values = np.asarray(rdm, np.float64).squeeze()
    return values if values.ndim == 2 else squareform(values)


def read(path: Path) -> Any:
    """Return the variables of a .mat file, or end with what is missing."""
    if not path.is_file():
        sys.exit(f"there is no {path.name} in {path.parent}: give rsatoolbox's demos/92imageData")
    return loadmat(path)


def convert(source: Path, target: Path) -> None:
    """Write images, RDMs and categories of the folder `source` to the folder `target`."""
    neuron = read(source / "Kriegeskorte_Neuron2008_supplementalData.mat")
    judged = read(source / "92_behavRDMs.mat")["rdms_behav_92"].ravel()
    stimuli = neuron["stimuli_92objs"].ravel()
    monkey, human = neuron["RDMs_mIT_hIT_fig1"].ravel()["RDM"][:2]
    rdms = {
        "monkey_it": square(monkey),
        "human_it": square(human),
        "behaviour": np.mean([square(one["RDM"]) for one in judged], axis=0),
    }
    for name, rdm in rdms.items():
        if rdm.shape != (len(stimuli), len(stimuli)):
            sys.exit(f"{name} is {rdm.shape}, but there are {len(stimuli)} images")
    (target / "stimuli").mkdir(parents=True, exist_ok=True)
    for name, rdm in rdms.items():
        np.save(target / f"{name}.npy", rdm)
    with (target / "categories.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", *CATEGORIES])
        for number, one in enumerate(stimuli, 1):
            Image.fromarray(one["image"]).save(target / "stimuli" / f"{number:03d}.png")
            table.writerow([f"{number:03d}.png", *(int(one[key].item()) for key in CATEGORIES)])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python rsa92.py .../rsatoolbox/demos/92imageData FOLDER")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
