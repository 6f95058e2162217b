"""A graph replaces a program only if it gives the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import json, sys
import keras, numpy as np, tensorflow as tf
from thingsvision_server.backends.tensorflow.child.compiled import (
    CompiledProgram,
    disable_graph_optimisers,
)
from thingsvision_server.backends.tensorflow.child.graph import flatten

class NeedsNumbers(keras.layers.Layer):
    def call(self, inputs):
        return inputs + float(np.max(inputs.numpy()))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

class Differs(keras.layers.Layer):
    def call(self, inputs):
        return inputs if tf.executing_eagerly() else inputs * 1.0000001

class Doubles(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2

def outcome(layer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, name="convolution")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = layer(keras.layers.ReLU()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    flattened = flatten(keras.Model(inputs, keras.layers.Dense(5)(x)))
    slots = tuple(step.outputs[0] for step in flattened.steps)
    plain, program = flattened.program(slots), CompiledProgram(flattened.program(slots))
    same, random = [], np.random.default_rng(0)
    for count in (4, 4, 4, 1, 7):
        batch = tf.convert_to_tensor(random.normal(size=(count, 16, 16, 3)).astype("float32"))
        pairs = zip(plain.run(batch), program.run(batch), strict=True)
        same.append(all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs))
    return {"same": same, "has_graph": program._graph is not None}

disable_graph_optimisers()
kinds = {"needs": NeedsNumbers, "differs": Differs, "plain": Doubles}
print(json.dumps({name: outcome(kind()) for name, kind in kinds.items()}))
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """What one process finds of a network with each of the layers."""
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=280)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("kind", "has_graph"), [("plain", True), ("needs", False), ("differs", False)]
)
def test_a_graph_is_used_where_every_bit_is_the_same(
    outcomes: dict[str, Any], kind: str, has_graph: bool
) -> None:
    assert outcomes[kind] == {"same": [True] * 5, "has_graph": has_graph}
