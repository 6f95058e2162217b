"""Writes harmonized.json: what the libraries of Harmonization's authors make of given weights.

The libraries have ended, so that no test installs them. To write the file anew:

    pip install tf_keras keras-cv-attention-models==1.4.3 efficientnet==1.1.1 vit-keras==0.1.2
    python tests/support/harmonized_reference.py

vit-keras imports three more packages that it does not need for this, and gets empty ones.
"""

from __future__ import annotations

import json
import os
import sys
import types
from importlib import import_module
from importlib.metadata import version

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
from harmonized_weights import EVERY, REFERENCE, images, values


class Empty(types.ModuleType):
    def __getattr__(self, name):
        return None


for package in ("cv2", "pkg_resources", "tensorflow_addons"):
    sys.modules.setdefault(package, Empty(package))

LOGITS = {"classifier_activation": None, "pretrained": None}
NETWORKS = {
    "EfficientNetB0": ("efficientnet", "efficientnet.tfkeras", "EfficientNetB0", {"weights": None}),
    "LeViT_small": (
        "keras-cv-attention-models",
        "keras_cv_attention_models.levit",
        "LeViT128",
        {**LOGITS, "use_distillation": False},
    ),
    "ViT_B16": (
        "vit-keras",
        "vit_keras.vit",
        "vit_b16",
        {"image_size": 224, "activation": "linear", "pretrained": False, "pretrained_top": False},
    ),
    "tiny_ConvNeXT": (
        "keras-cv-attention-models",
        "keras_cv_attention_models.convnext",
        "ConvNeXtTiny",
        LOGITS,
    ),
    "tiny_MaxViT": (
        "keras-cv-attention-models",
        "keras_cv_attention_models.maxvit",
        "MaxViT_Tiny",
        LOGITS,
    ),
}


def entry(package, module, function, options):
    network = getattr(import_module(module), function)(**options)
    layers = [layer for layer in network.layers if layer.weights]
    for layer in layers:
        layer.set_weights([values(one.name, one.shape) for one in layer.weights])
    if package == "efficientnet":  # it has no option for logits
        network.layers[-1].activation = None
    logits = np.array(network(images(), training=False))
    return {
        "library": f"{package} {version(package)}",
        "layers": [
            [layer.name, [[one.name, list(one.shape)] for one in layer.weights]] for layer in layers
        ],
        "logits": [[round(float(x), 6) for x in row[::EVERY]] for row in logits],
    }


if __name__ == "__main__":
    entries = {name: entry(*network) for name, network in NETWORKS.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in entries.items())
    REFERENCE.write_text(f"{{\n{lines}\n}}\n")
