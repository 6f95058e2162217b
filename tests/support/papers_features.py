"""Features of the paper's scripts, and features of each image in its own request."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import Client

SQUEEZENET = "torchvision/squeezenet1_0@random:0"


def environment(server: TestServer) -> dict[str, str]:
    return {**os.environ, "THINGSVISION_SERVER": server.address, "TERM": "xterm"}


def names_in(folder: Path) -> list[str]:
    """Return the names that a folder's file lists, without the root of the tests' images."""
    lines = (folder / "file_names.txt").read_text(encoding="utf-8").splitlines()
    return [re.sub(r"^(.*/)?images/", "", line) for line in lines]


def alone(server: TestServer, model: str, root: Path, names: list[str], module: str) -> np.ndarray:
    """Return flattened features of images, each from its own request."""
    with Client(server.address) as client:
        found = [client.extract(model, [root / name], module, flatten=True) for name in names]
    return np.concatenate([one.features[module] for one in found])


def assert_same(features: np.ndarray, expected: np.ndarray) -> None:
    """Compare rows of passes with other numbers of images, which may round differently."""
    assert_close(features, expected)
    assert len({row.tobytes() for row in expected}) == len(expected), "images are alike"
