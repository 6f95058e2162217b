"""Uploads as a user makes them: their declarations, their output, and unreadable files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from safetensors.torch import save_file

from thingsvision_client import Client
from thingsvision_client.errors import InvalidRequestError, InvalidWeightsError
from thingsvision_client.values.preprocessing import Preprocessing, declaration

RUN = "from thingsvision_client.cli import main; main()"


def cli(server: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env=os.environ | {"THINGSVISION_SERVER": server.address, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """An ONNX model that doubles its images."""
    shape = ["batch", 3, 16, 16]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["image", "image"], ["twice"])],
        "Doubling",
        [value("image", onnx.TensorProto.FLOAT, shape)],
        [value("twice", onnx.TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "doubling.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_declaration_is_a_record_or_a_dict() -> None:
    record = Preprocessing(resize_pixels=(72,), crop_pixels=(64, 48), mean=(0.5, 0.4, 0.3))
    named = {"resize_pixels": 72, "crop_pixels": [64, 48], "mean": [0.5, 0.4, 0.3]}
    assert declaration(record) == declaration(named)
    assert list(declaration(named).resize_pixels) == [72]


@pytest.mark.parametrize(
    "declared", [{"crop": 3}, {"crop_pixels": "many"}, {"mean": [None]}, {"crop_pixels": [-1]}]
)
def test_an_unreadable_declaration_is_refused_with_the_valid_fields(
    declared: dict[str, Any],
) -> None:
    with pytest.raises(InvalidRequestError, match=r"can't be read.*Valid fields: resize_pixels"):
        declaration(declared)


def test_a_missing_file_is_reported(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidWeightsError, match=r"Can't read '.*nowhere.pt': No such file"):
        client.upload_weights(tmp_path / "nowhere.pt")


def test_weights_are_uploaded_listed_and_deleted_by_commands(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"weight": torch.arange(7.0) + 0.25}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert cli(server, "upload", str(path)).stdout == f"sha256:{sha256}\n"
    listed = cli(server, "uploads").stdout
    (line,) = [one for one in listed.splitlines() if sha256 in one]
    assert "mine.safetensors" in line
    assert "safetensors" in line
    assert cli(server, "delete-upload", sha256).stdout == f"{path.stat().st_size} bytes freed.\n"
    assert sha256 not in cli(server, "uploads").stdout
    gone = cli(server, "delete-upload", sha256)
    assert gone.returncode == 1
    assert f"Error: no uploaded file has the SHA-256 '{sha256}'" in gone.stderr


def test_a_model_is_uploaded_with_its_preprocessing_by_a_command(
    server: Any, client: Client, doubling: Path, photos: list[Path]
) -> None:
    declared = {"resize_pixels": [16, 16], "value_range": "0..255"}
    model = cli(server, "upload", str(doubling), "--preprocessing", json.dumps(declared)).stdout
    assert model == f"own/{hashlib.sha256(doubling.read_bytes()).hexdigest()}\n"
    assert cli(server, "upload", str(doubling)).stdout == model
    found = client.extract(model.strip(), photos, "twice").features["twice"]
    assert found.shape == (len(photos), 3, 16, 16)
    assert found.max() > 255
    assert np.array_equal(found, np.round(found))
    wrong = cli(server, "upload", str(doubling), "--preprocessing", "[1]")
    assert "--preprocessing must be a JSON object" in wrong.stderr
