"""A small Keras model for images that are not square, written without Keras."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

HEIGHT, WIDTH = 40, 56
MODULE = "act"
"""Of 19 x 27 x 5: an activation, whose class does not say where its channels are."""


def write_tall_keras(path: Path) -> Path:
    """Write the model, the same each time, and return its path."""
    weights = io.BytesIO()
    chance = np.random.default_rng(0)
    with h5py.File(weights, "w") as file:
        for name, layer in (("conv2d", "conv"), ("re_lu", "act"), ("input_layer", "image")):
            file.create_group(f"layers/{name}/vars").attrs["name"] = layer
        variables = file["layers/conv2d/vars"]
        variables["0"] = chance.normal(size=(3, 3, 3, 5)).astype(np.float32)
        variables["1"] = chance.normal(size=5).astype(np.float32)
        file.create_group("vars")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.8.0"}))
        archive.writestr("config.json", json.dumps(_config()))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def _config() -> dict[str, Any]:
    image = {"batch_shape": [None, HEIGHT, WIDTH, 3], "dtype": "float32", "name": "image"}
    conv = {"name": "conv", "filters": 5, "kernel_size": [3, 3], "strides": [2, 2]}
    layers = [
        _layer("InputLayer", image),
        _layer("Conv2D", conv | {"data_format": "channels_last"}, "image", [HEIGHT, WIDTH, 3]),
        _layer("ReLU", {"name": MODULE, "max_value": 6.0}, "conv", [19, 27, 5]),
    ]
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "tall",
            "layers": layers,
            "input_layers": ["image", 0, 0],
            "output_layers": [MODULE, 0, 0],
        },
        "registered_name": "Functional",
    }


def _layer(
    kind: str, config: dict[str, Any], before: str = "", shape: list[int] | None = None
) -> dict[str, Any]:
    history = {"shape": [None, *(shape or ())], "dtype": "float32", "keras_history": [before, 0, 0]}
    tensor = {"class_name": "__keras_tensor__", "config": history}
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": config,
        "registered_name": None,
        "name": config["name"],
        "inbound_nodes": [{"args": [tensor], "kwargs": {}}] if before else [],
    }
