"""Uploaded files: of known formats, unable to run or read anything, and of the right network."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

from support.weight_files import digest, weights
from thingsvision_client import Client
from thingsvision_client.errors import (
    InvalidRequestError,
    InvalidWeightsError,
    UnknownWeightsError,
    WeightsMismatchError,
)


def pickled() -> bytes:
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), file)
    return file.getvalue()


def linked_hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened["weight"] = np.ones(3)
        opened["secret"] = h5py.ExternalLink("/etc/passwd", "/x")
    return file.getvalue()


def outside_hdf5(folder: Path = Path("/etc")) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened.create_dataset("weight", (4,), "u1", external=[(str(folder / "passwd"), 0, 4)])
    return file.getvalue()


def hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        opened["layers/dense/vars/0"] = np.ones((3, 2), np.float32)
    return file.getvalue()


def layer(class_name: str, **changes: Any) -> dict[str, Any]:
    named = {"module": "keras.layers", "class_name": class_name, "registered_name": None}
    return {"config": {"name": f"my_{class_name.lower()}"}, **named, **changes}


def archive(*layers: dict[str, Any], **members: bytes) -> bytes:
    config = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "net", "layers": list(layers)},
        "registered_name": None,
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("config.json", json.dumps(config))
        opened.writestr("metadata.json", "{}")
        opened.writestr("model.weights.h5", hdf5())
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def onnx_model(domain: str = "", *, external: bool = False, inputs: int = 1) -> bytes:
    names = [f"image{number}" for number in range(inputs)]
    shape = ["batch", 3, 8, 8]
    given = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in names]
    out = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, shape)
    scale = numpy_helper.from_array(np.ones(1, np.float32), "scale")
    if external:
        scale.data_location = onnx.TensorProto.EXTERNAL
        scale.external_data.add(key="location", value="/etc/passwd")
    node = helper.make_node("Mul", [names[0], "scale"], ["out"], domain=domain)
    graph = helper.make_graph([node], "net", given, [out], [scale])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}

REFUSED: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "unknown": (
        lambda: b"hello\n",
        ("is unknown", "safetensors", "torch file", ".weights.h5", ".keras", ".pt2", "ONNX"),
    ),
    "a pickled network": (pickled, ("without running code", "state_dict()")),
    "HDF5 that links elsewhere": (linked_hdf5, ("'/secret'", "is a link", "save_weights")),
    "HDF5 with values elsewhere": (outside_hdf5, ("'/weight'", "another file")),
    "broken HDF5": (lambda: hdf5()[:300], ("HDF5", "broken")),
    "a Lambda layer": (
        lambda: archive(layer("Lambda", config={"name": "mine", "function": LAMBDA})),
        ("'mine'", "Lambda", "Python code", ".weights.h5"),
    ),
    "a lambda for an activation": (
        lambda: archive(layer("Dense", config={"name": "mine", "activation": LAMBDA})),
        ("'mine'", "__lambda__", "Python code"),
    ),
    "a custom layer": (
        lambda: archive(layer("Mine", module="net", registered_name="My>Mine")),
        ("'my_mine'", "custom class 'My>Mine'"),
    ),
    "a class of another package": (
        lambda: archive(layer("system", module="os", registered_name="system")),
        ("custom class",),
    ),
    "a registered custom class": (
        lambda: archive(layer("Dense", registered_name="Mine>Dense")),
        ("custom class 'Mine>Dense'",),
    ),
    "a function of Keras": (
        lambda: archive(layer("get_file", module="keras.utils")),
        ("custom class 'keras.utils.get_file'",),
    ),
    "a layer that runs a SavedModel": (
        lambda: archive(layer("TFSMLayer", config={"name": "x", "filepath": "/etc"})),
        ("'x'", "TFSMLayer", "SavedModel"),
    ),
    "a Keras archive with assets": (
        lambda: archive(**{"assets/vocabulary.txt": b"/etc/passwd"}),
        ("assets/vocabulary.txt",),
    ),
    "a custom operator of ONNX": (
        lambda: onnx_model("com.mine"),
        ("'Mul'", "'com.mine'", "standard operators"),
    ),
    "external data of ONNX": (
        lambda: onnx_model(external=True),
        ("'scale'", "another file", "save_as_external_data=False"),
    ),
    "ONNX with two inputs": (lambda: onnx_model(inputs=2), ("one input", "image0, image1")),
    "broken ONNX": (lambda: onnx_model()[:-40], ("ONNX",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_could_run_or_read_anything_is_refused(
    client: Client, folder: Path, tmp_path: Path, case: str
) -> None:
    make, words = REFUSED[case]
    path = tmp_path / "refused"
    path.write_bytes(make())
    with pytest.raises(InvalidWeightsError) as refusal:
        client.upload_weights(path)
    for word in words:
        assert word in str(refusal.value)
    left = [one.name for one in (folder / "uploads").iterdir()]
    assert not [name for name in left if digest(path.read_bytes()) in name]


ACCEPTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "safetensors": (weights, "safetensors"),
    "HDF5": (hdf5, "hdf5"),
    "a Keras archive": (lambda: archive(layer("Dense")), "keras"),
    "ONNX": (onnx_model, "onnx"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_file_of_a_known_format_is_kept(client: Client, tmp_path: Path, case: str) -> None:
    make, kind = ACCEPTED[case]
    path = tmp_path / "file"
    path.write_bytes(make())
    sha256 = client.upload_weights(path)
    assert {one.sha256: one.format for one in client.uploads()}[sha256] == kind


def test_weights_of_another_network_are_refused_with_the_keys(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = {"features.0.wait": torch.ones(2), "features.0.bias": torch.ones(3)}
    save_file(tensors, path)
    sha256 = client.upload_weights(path)
    with pytest.raises(WeightsMismatchError) as refusal:
        client.load(f"torchvision/squeezenet1_1@sha256:{sha256}")
    words = (
        "torchvision/squeezenet1_1",
        "missing keys: features.0.weight",
        "more",
        "unexpected keys: features.0.wait",
        "features.0.bias [3] instead of [64]",
    )
    for word in words:
        assert word in str(refusal.value)


def test_an_unknown_digest_is_refused(client: Client) -> None:
    with pytest.raises(UnknownWeightsError, match=f"'{'a' * 64}'; upload them first"):
        client.load(f"torchvision/squeezenet1_1@sha256:{'a' * 64}")


def test_weights_of_a_known_network_bring_no_preprocessing(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights(seed=9))
    with pytest.raises(InvalidRequestError, match=r"only for a complete model.*leave it out"):
        client.upload_model(path, {"crop_pixels": [64]})
    with pytest.raises(
        InvalidRequestError, match=r"contains weights .safetensors., not a complete model"
    ):
        client.upload_model(path)
