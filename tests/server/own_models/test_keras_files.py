"""Whole Keras models as users save them: `.h5` files, inputs of any size, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.checkout import SUPPORT
from support.closeness import assert_close
from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError, InvalidWeightsError, ThingsvisionError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keras")
    subprocess.run(
        [sys.executable, SUPPORT / "keras_files.py", made],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=200,
    )
    return made


FILES = {
    "fixed.h5": ("network", ("conv", "act", "last")),
    "open.keras": ("network", ("conv", "act", "last")),
    "open.h5": ("network", ("conv", "act", "last")),
    "row.h5": ("row", ("conv", "last")),
    "keras 2.h5": ("row", ("conv", "last")),
}
"""Files, the network in them, and its layers."""


@pytest.mark.parametrize("name", FILES)
def test_a_whole_model_gives_what_keras_gives(client: Client, folder: Path, name: str) -> None:
    kind, layers = FILES[name]
    said = np.load(folder / "said.npz")
    model = client.upload_model(folder / name)
    found = client.extract(model, said["batch"], list(layers)).features
    for layer in layers:
        assert_close(found[layer], said[f"{kind}/{layer}"])


def test_layers_inside_an_open_model_have_shapes(client: Client, folder: Path) -> None:
    model = client.upload_model(folder / "nested.keras", {"crop_pixels": 32})
    shapes = {one.name.rpartition("/")[2]: one.output_shape for one in client.modules(model)}
    assert tuple(shapes["conv"]) == (15, 15, 4)
    said = np.load(folder / "said.npz")
    (inner,) = [one.name for one in client.modules(model) if one.name.endswith("/conv")]
    found = client.extract(model, said["batch"], inner).features[inner]
    assert_close(found, said["network/conv"])


def test_a_size_that_an_open_model_cannot_take_is_refused(client: Client, folder: Path) -> None:
    model = client.upload_model(folder / "open.keras")
    with pytest.raises(InvalidRequestError, match=r"open.keras"):
        client.extract(model, np.zeros((2, 2, 2, 3), np.float32), "last")


def test_code_in_an_old_file_is_refused(client: Client, folder: Path) -> None:
    with pytest.raises(
        InvalidWeightsError, match=r"code.h5 is rejected: layer 'double' \(Lambda\)"
    ):
        client.upload_model(folder / "code.h5")


def test_two_inputs_are_told_by_the_users_name(client: Client, folder: Path) -> None:
    with pytest.raises(ThingsvisionError, match=r"two.keras .*one input.*got 2") as refused:
        client.modules(client.upload_model(folder / "two.keras"))
    assert isinstance(refused.value, InvalidWeightsError)
