"""Reads what a job wrote to a folder of chunks: its rows, and the servers that computed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thingsvision_client import read_origin


def rows_in(folder: Path) -> Any:
    """Return the rows of a module's folder, in the order of its images."""
    paths = sorted(folder.glob("*.npy"), key=lambda one: int(one.stem.split("-")[1]))
    return np.concatenate([np.load(path) for path in paths])


def ranges_in(folder: Path, fact: str) -> list[tuple[int, int, str]]:
    """Return the ranges of rows in a module's folder, each with a fact of its server."""
    found = [
        (one["first_index"], one["image_count"], one[fact])
        for path in folder.glob("*.npy")
        for one in read_origin(path)["servers"]
    ]
    return sorted(found)
