"""Networks whose activations would differ from call to call are refused, with what helps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from support.checkout import SUPPORT
from support.closeness import assert_close
from support.own_files import hooked
from support.random_networks import (
    OF_THE_BATCH,
    OF_VALUES,
    RANDOM,
    REPEATABLE,
    SWITCHED_ON,
    TRAINING,
    UNWRITTEN,
    network,
)
from thingsvision_client import Client
from thingsvision_client.errors import InvalidWeightsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("random")
    subprocess.run([sys.executable, SUPPORT / "random_networks.py", made], check=True, timeout=200)
    return made


def refusal(client: Client, path: Path) -> str:
    """Return why a file is refused at the upload, under the user's name for it."""
    with pytest.raises(InvalidWeightsError) as refused:
        client.upload_model(path)
    assert path.name in str(refused.value)
    assert path.name not in [upload.name for upload in client.uploads()]
    return str(refused.value)


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_are_refused_by_operator_and_module(
    client: Client, folder: Path, name: str
) -> None:
    sentence = refusal(client, folder / f"random {name}.pt2")
    assert f"'aten::{name}' in module 'noise' (Noise) draws random numbers" in sentence
    assert "model.eval() does not change that" in sentence
    assert "register_buffer" in sentence


@pytest.mark.parametrize("name", SWITCHED_ON)
def test_functions_that_train_are_refused_with_the_argument_that_helps(
    client: Client, folder: Path, name: str
) -> None:
    sentence = refusal(client, folder / f"switched on {name}.pt2")
    assert f"'aten::{name}' in module 'noise' (Noise)" in sentence
    helps = "dropout_p=p if self.training" if "attention" in name else "training=self.training"
    assert helps in sentence


@pytest.mark.parametrize("name", TRAINING)
def test_modules_kept_in_training_mode_are_named(client: Client, folder: Path, name: str) -> None:
    sentence = refusal(client, folder / f"training {name}.pt2")
    assert "'noise.function.drop' (Dropout) is in training mode" in sentence


@pytest.mark.parametrize("name", OF_THE_BATCH)
def test_values_of_the_whole_batch_are_refused(client: Client, folder: Path, name: str) -> None:
    sentence = refusal(client, folder / f"of the batch {name}.pt2")
    assert "depend on the other images of its batch" in sentence
    assert "'noise" in sentence


@pytest.mark.parametrize("name", OF_VALUES)
def test_shapes_that_depend_on_values_are_refused(client: Client, folder: Path, name: str) -> None:
    sentence = refusal(client, folder / f"of values {name}.pt2")
    assert f"'aten::{name}' in module 'noise' (Noise) chooses sizes by the values" in sentence
    assert "torch.where" in sentence


FILLED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "empty_like": lambda x: x,
    "new_empty": lambda x: np.concatenate([x, np.zeros_like(x[:, :1])], 1),
    "empty": lambda x: np.concatenate([x[:, :3], np.zeros_like(x[:, :1])], 1) + 1,
}
"""What the networks compute if the memory that nothing was written to holds zeros."""


@pytest.mark.parametrize("name", UNWRITTEN)
def test_memory_that_nothing_was_written_to_holds_zeros(
    client: Client, folder: Path, name: str
) -> None:
    model = client.upload_model(folder / f"unwritten {name}.pt2")
    batch = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    found = client.extract(model, batch, ["conv", "noise"]).features
    assert_close(found["noise"], FILLED[name](found["conv"]))


@pytest.mark.parametrize("name", REPEATABLE)
def test_what_only_looks_random_gives_what_pytorch_gives(
    client: Client, folder: Path, name: str
) -> None:
    model = client.upload_model(folder / f"repeatable {name}.pt2")
    batch = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = client.extract(model, batch.numpy(), "noise").features["noise"]
    assert_close(found, hooked(network("repeatable", name), batch, ["noise"])["noise"])
