"""Plain Keras in a process of its own: what the server is compared with.

Reads a list of tasks (JSON) and writes the arrays of all into one npz file; imports nothing of
this project.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np


def images(package, paths, size):
    load = import_module(package).utils
    return np.stack(
        [
            load.img_to_array(load.load_img(p, target_size=size, interpolation="bilinear"))
            for p in paths
        ]
    )


def preprocessed(package, name, paths, size):
    """The family's own preprocessing, of the module that the documentation names."""
    family = import_module(f"{package}.applications.{name}")
    return np.array(family.preprocess_input(images(package, paths, size)))


def activations(package, name, family, layers, paths, weights=None, seed=None, save_as=None):
    keras = import_module(package)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    network = getattr(keras.applications, name)(weights=weights)
    if save_as:
        network.save(save_as)  # in the layout of Keras 2, which its published files have
    batch = preprocessed(package, family, paths, tuple(network.input_shape[1:3]))
    outputs = [network.get_layer(layer).output for layer in layers]
    found = keras.Model(network.input, outputs)(batch, training=False)
    return dict(zip(layers, (np.array(one) for one in found), strict=True))


def nested(package, layers, paths):
    """Activations inside a network inside a network: ConvNeXt's stem, by hand."""
    keras = import_module(package)
    keras.utils.set_random_seed(0)
    network = keras.applications.ConvNeXtTiny(weights=None)
    batch = preprocessed(package, "convnext", paths, (224, 224))
    stem = network.get_layer("convnext_tiny_stem")
    x = network.get_layer("convnext_tiny_prestem_normalization")(batch)
    return {layer: np.array(x := stem.get_layer(layer)(x)) for layer in layers}


def harmonized(layers, paths, save_as):
    """Random weights in a file as the authors of Harmonization wrote theirs: all of Keras 2."""
    import tf_keras as keras

    keras.utils.set_random_seed(2)
    network = keras.applications.ResNet50V2(weights=None, classifier_activation=None)
    network.save(save_as)
    values = images("tf_keras", paths, (224, 224)) / 255
    batch = (values - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    outputs = [network.get_layer(layer).output for layer in layers]
    found = keras.Model(network.input, outputs)(batch.astype(np.float32), training=False)
    return dict(zip(layers, (np.array(one) for one in found), strict=True))


TASKS = {
    "preprocessed": preprocessed,
    "activations": activations,
    "nested": nested,
    "harmonized": harmonized,
}


def main() -> None:
    arrays = {}
    for number, (task, arguments) in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        found = TASKS[task](**arguments)
        named = found if isinstance(found, dict) else {"": found}
        arrays |= {f"{number}:{name}": array for name, array in named.items()}
    np.savez(sys.argv[2], **arrays)


if __name__ == "__main__":
    main()
