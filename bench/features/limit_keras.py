"""The limit for Keras: preloaded inputs, the layers up to the last module, and storing the rows."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..cases import FeatureCase
from ..inputs import batches, keras_pixels
from ..networks import keras_network
from ..worker import Case, Column, Result, main


class LimitKeras(Column):
    """The hardware's limit for this network, this batch size and stock TensorFlow."""

    def prepare(self, case: Case) -> None:
        """Make the inputs, and compile the part of the network."""
        self._case = FeatureCase(**case)
        network = keras_network(self._case.network, self._case.weights)
        outputs = {name: network.get_layer(name).output for name in self._case.modules}
        part = keras.Model(network.input, outputs)
        self._forward = tf.function(lambda batch: part(batch, training=False))
        pixels = keras_pixels(self._case)
        inputs = keras.applications.mobilenet_v2.preprocess_input(pixels)
        self._batches = [tf.constant(batch) for batch in batches(inputs, self._case.batch_size)]

    def run(self) -> Result:
        """Run all batches, and join the rows of each module."""
        parts: list[dict[str, Any]] = [self._forward(batch) for batch in self._batches]
        names = self._case.modules
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


if __name__ == "__main__":
    main(LimitKeras)
