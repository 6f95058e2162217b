"""Whole models of Keras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from support.closeness import assert_close
from thingsvision_client import Client

KERAS = """
import sys
import keras, numpy as np
from keras import layers
keras.utils.set_random_seed(0)
image = layers.Input((32, 32, 3), name="image")
x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
x = layers.BatchNormalization(name="norm")(x)
model = keras.Model(image, layers.Dense(5, name="last")(layers.GlobalAveragePooling2D()(x)))
model.save(sys.argv[1])
batch = np.load(sys.argv[2])
sub = keras.Model(model.inputs, [model.get_layer("conv").output, model.output])
np.savez(sys.argv[3], **dict(zip(("conv", "last"), sub.predict(batch, verbose=0))))
"""


def test_a_keras_archive_gives_what_keras_gives(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    batch, path, out = tmp_path / "batch.npy", tmp_path / "net.keras", tmp_path / "out.npz"
    # BGR, -1..1, channels last: another declaration than the one above.
    pixels = [
        np.asarray(Image.open(p).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
        for p in photos
    ]
    np.save(batch, (np.stack(pixels)[..., ::-1] / 127.5 - 1).astype(np.float32))
    subprocess.run([sys.executable, "-c", KERAS, path, batch, out], check=True, timeout=200)
    declared = {
        "resize_pixels": [32, 32],
        "interpolation": "bicubic",
        "value_range": "-1..1",
        "channel_order": "BGR",
    }
    model = client.upload_model(path, declared)
    found = client.extract(model, photos, ["conv", "last"])
    expected = np.load(out)
    for name in ("conv", "last"):
        assert_close(found.features[name], expected[name])
    assert found.provenance.framework.startswith("tensorflow")
    assert found.provenance.preprocessing.channel_order == "BGR"
