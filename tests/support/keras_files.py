"""Small Keras models as whole files of several kinds, with what Keras says of them; run alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers

MODULES = ("conv", "act", "last")
SEQUENCE = ("conv", "last")


def network(shape: tuple[int | None, ...]) -> keras.Model:
    """Return a network, the same each time but for the size of its inputs."""
    keras.utils.set_random_seed(0)
    image = layers.Input(shape, name="image")
    x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
    x = layers.ReLU(6, name="act")(layers.BatchNormalization(name="norm")(x))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, layers.Dense(5, name="last")(x))


def sequence() -> keras.Model:
    """Return layers in a row."""
    keras.utils.set_random_seed(1)
    rows = [layers.Conv2D(3, 3, name="conv"), layers.Flatten(), layers.Dense(2, name="last")]
    return keras.Sequential([layers.Input((32, 32, 3)), *rows])


def as_keras_2(path: Path) -> None:
    """Rewrite the configuration as Keras 2 spelled it: classes without modules."""
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = json.dumps(_as_keras_2(config)).encode()


def _as_keras_2(part: Any) -> Any:
    if isinstance(part, list):
        return [_as_keras_2(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    if part.get("class_name") == "DTypePolicy":
        return part["config"]["name"]
    later = ("module", "registered_name", "build_config", "value_range")
    return {key: _as_keras_2(entry) for key, entry in part.items() if key not in later}


def main() -> None:
    folder = Path(sys.argv[1])
    fixed, opened, row = network((32, 32, 3)), network((None, None, 3)), sequence()
    fixed.save(folder / "fixed.h5")
    row.save(folder / "row.h5")
    row.save(folder / "keras 2.h5")
    as_keras_2(folder / "keras 2.h5")
    opened.save(folder / "open.keras")
    opened.save(folder / "open.h5")
    keras.Sequential([layers.Input((None, None, 3)), opened]).save(folder / "nested.keras")
    doubling = layers.Lambda(lambda x: x * 2, name="double")
    code = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(1, 1), doubling])
    code.save(folder / "code.h5")
    images = [layers.Input((8, 8, 3), name=name) for name in ("left", "right")]
    both = layers.Conv2D(1, 1, name="both")(layers.Add()(images))
    keras.Model(images, both).save(folder / "two.keras")
    batch = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    arrays = {"batch": batch}
    for kind, model, names in [("network", fixed, MODULES), ("row", row, SEQUENCE)]:
        parts = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
        found = parts.predict(batch, verbose=0)
        arrays |= {f"{kind}/{name}": rows for name, rows in zip(names, found, strict=True)}
    np.savez(folder / "said.npz", **arrays)


if __name__ == "__main__":
    main()
