"""A user's script that sends Keras networks of its own; run by test_own_network in a child."""

from __future__ import annotations

import keras
import numpy as np
from PIL import Image
from script_outcome import ARRAYS, SAID, images, opened, refusal, run

from thingsvision_client import DataLoader, get_extractor, get_extractor_from_model


def network() -> keras.Model:
    """Return a small network, the same each time."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(5, name="head"),
        ]
    )


def arrays() -> None:
    """Extract from arrays, then from images as they were declared."""
    net = network()
    extractor = get_extractor_from_model(net, "cpu", "tf")
    batch = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    ARRAYS["found"] = extractor.extract_batch(batch, "head")
    ARRAYS["expected"] = np.asarray(net(batch))
    SAID["backend"], SAID["model"] = extractor.get_backend(), str(extractor.model)
    SAID["modules"] = extractor.get_module_names()
    declared = {"resize_pixels": [16, 16], "value_range": "0..255"}
    extractor = get_extractor_from_model(net, "cpu", "tf", declared)
    SAID["again"] = str(extractor.model)
    ARRAYS["images found"] = extractor.extract_features(images(None, "tf"), "head")
    pixels = [
        np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR), np.float32)
        for image in opened()
    ]
    ARRAYS["images expected"] = np.asarray(net(np.stack(pixels)))


def toys() -> None:
    """Extract from single numbers, through our loader of a list of tensors."""
    toy = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(2, "relu", use_bias=False, name="first", kernel_initializer="ones"),
            keras.layers.Dense(2, "relu", use_bias=False, name="last", kernel_initializer="ones"),
        ]
    )
    numbers = [keras.ops.convert_to_tensor([float(number)]) for number in (2, -10)]
    loader = DataLoader(numbers, 1, "tf")
    extractor = get_extractor_from_model(toy, "cpu", "tf")
    ARRAYS["toy"] = extractor.extract_features(loader, "first")
    placed = get_extractor("VGG16", False, "cpu", "keras")
    placed.model = toy
    placed.backend = "tf"
    rows = [placed.extract_batch(batch=batch, module_name="last") for batch in loader]
    ARRAYS["toy in a model's place"] = np.concatenate(rows)


def refused() -> None:
    """Send what holds code."""
    SAID["forward"] = refusal(
        lambda: get_extractor_from_model(network(), None, "tf", forward_fn=lambda self, x: x)
    )
    code = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Lambda(lambda x: x * 2)])
    SAID["lambda"] = refusal(lambda: get_extractor_from_model(code, None, "tf"))


if __name__ == "__main__":
    run(arrays, toys, refused)
