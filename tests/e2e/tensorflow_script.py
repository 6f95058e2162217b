"""A Keras prediction and an extraction in one process; test_neighbours runs it beside TensorFlow.

`client` or `tensorflow`, the first argument, is imported first.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from typing import Any

import numpy as np

FIRST, SERVER, MODEL, MODULE, RESULT, *PHOTOS = sys.argv[1:]
LIBRARIES = ["thingsvision_client", "tensorflow"]
for name in LIBRARIES if FIRST == "client" else LIBRARIES[::-1]:
    library = importlib.import_module(name)
    for public in getattr(library, "__all__", ()):
        getattr(library, public)

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from thingsvision_client import Client, errors, get_extractor_from_model  # noqa: E402

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)


def network() -> Any:
    """Return a small network of the user."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(6, 1, activation="relu", name="conv"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(5, name="head"),
        ]
    )


def predict_by_hand(net: Any) -> np.ndarray:
    """Return the network's outputs, by numpy."""
    kernel, bias, weights, shift = net.get_weights()
    maps = np.maximum(IMAGES @ kernel[0, 0] + bias, 0)
    return maps.mean(axis=(1, 2)) @ weights + shift


net = network()
found = {"before": net.predict(IMAGES, verbose=0)}
with Client(SERVER) as client:
    found["features"] = client.extract(MODEL, PHOTOS, MODULE, batch_size=1).features[MODULE]
    with suppress(errors.UnknownModelError):  # its details are protobuf
        sys.exit(str(client.modules("torchvision/unknown")))
extractor = get_extractor_from_model(net, "cpu", "tf", server=SERVER)
found["own"] = extractor.extract_batch(IMAGES, "head")
found["after"] = net.predict(IMAGES, verbose=0)
np.savez(RESULT, expected=predict_by_hand(net), **found)
print(tf.__version__)
