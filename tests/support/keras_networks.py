"""Small Keras networks as `.keras` files, with what plain Keras says of them; run on its own."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers


def shared() -> keras.Model:
    """One layer that runs three times, and a network inside the network that runs twice."""
    inner_input = layers.Input((8, 8, 4), name="inner_input")
    first = layers.Conv2D(4, 3, padding="same", name="first")(inner_input)
    inner = keras.Model(inner_input, layers.ReLU(name="second")(first), name="inner")
    image = layers.Input((8, 8, 3), name="image")
    again = layers.Conv2D(4, 1, name="again")
    x = layers.Conv2D(4, 3, padding="same", name="start")(image)
    for _ in range(3):
        x = again(x)
    x = layers.Dropout(0.5, name="dropout")(inner(inner(x)))
    rows = layers.GlobalAveragePooling2D(name="rows")(x)
    return keras.Model(image, layers.Dense(5, name="last")(rows))


def odd() -> keras.Model:
    """Outputs that cannot be extracted: integers, no row per image, and a huge one."""
    image = layers.Input((8, 8, 3), name="image")
    mean = layers.GlobalAveragePooling2D(name="mean")(image)
    whole = keras.ops.argmax(mean, axis=-1)
    flat = keras.ops.sum(mean, axis=0)
    huge = layers.UpSampling2D((30_000, 30_000), name="huge")(image)
    tiny = layers.GlobalMaxPooling2D(name="tiny")(huge)
    return keras.Model(image, [tiny, whole, flat])


def named() -> keras.Model:
    """A network that gives a dict, and one like it inside it."""
    image = layers.Input((8, 8, 3), name="image")
    inner_input = layers.Input((8, 8, 3), name="inner_input")
    mean = layers.GlobalAveragePooling2D(name="mean")(inner_input)
    most = layers.GlobalMaxPooling2D(name="most")(inner_input)
    inner = keras.Model(inner_input, {"most": most, "mean": mean}, name="inner")(image)
    last = layers.Dense(2, name="last")(inner["mean"])
    return keras.Model(image, {"logits": last, "highest": inner["most"]})


def main() -> None:
    folder = Path(sys.argv[1])
    keras.utils.set_random_seed(1)
    network = shared()
    network.save(folder / "shared.keras")
    odd().save(folder / "odd.keras")
    named().save(folder / "named.keras")
    batch = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    x = network.get_layer("start")(batch)
    found = {"batch": batch, "start": x}
    for call in range(3):
        found[f"again@t={call}"] = x = network.get_layer("again")(x)
    inner = network.get_layer("inner")
    for call in range(2):
        found[f"inner/first@t={call}"] = x = inner.get_layer("first")(x)
        found[f"inner/second@t={call}"] = x = inner.get_layer("second")(x)
    found[""] = network(batch, training=False)
    np.savez(folder / "shared.npz", **{name: np.array(array) for name, array in found.items()})


if __name__ == "__main__":
    main()
