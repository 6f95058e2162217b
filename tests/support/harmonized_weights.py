"""Weights for the networks of Harmonization, drawn by name: the same in Keras as in a test.

Imports nothing of this project, and of Keras nothing at all.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

REFERENCE = Path(__file__).with_name("harmonized.json")
"""Of each network its library, its layers with their tensors' names and shapes, and some of its
logits for `images()`: written by harmonized_reference.py."""

EVERY = 50
"""Of the 1000 logits one in so many is kept."""


def reference(name):
    """Return a network's entry."""
    return json.loads(REFERENCE.read_text())[name]


def images():
    """Two preprocessed images, N x H x W x C."""
    return np.random.default_rng(0).standard_normal((2, 224, 224, 3), np.float32)


def values(name, shape):
    """Draw a tensor that keeps activations in range and lets every part of a network count."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    own = name.removesuffix(":0").rpartition("/")[2]
    if own == "moving_variance":
        return 1 + 0.2 * np.abs(drawn)
    if own in ("gamma", "weight"):
        return 1 + 0.1 * drawn
    if own == "depthwise_kernel":
        return drawn / np.float32(np.sqrt(shape[0] * shape[1]))
    if own == "kernel":
        return drawn / np.float32(np.sqrt(np.prod(shape[:-1])))
    return 0.1 * drawn


def write_weights(path, layers, *, whole_model=False):
    """Write a file as Keras 2 does with `save_weights`, or in a whole model with `save`."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole_model else file
        group.attrs["layer_names"] = [b"input_1", *(layer.encode() for layer, _ in layers)]
        group.create_group("input_1").attrs["weight_names"] = np.array([], "S1")
        for layer, tensors in layers:
            own = group.create_group(layer)
            own.attrs["weight_names"] = [name.encode() for name, _ in tensors]
            for name, shape in tensors:
                own.create_dataset(name, data=values(name, shape))
