"""A bare script for Keras, as an expert writes it: the layers up to the module, and tf.data."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ..cases import FeatureCase
from ..inputs import KERAS_PIXELS
from ..networks import keras_network
from ..worker import Case, Column, Result, main


class BareKeras(Column):
    """Twenty lines without our libraries or the peer's."""

    def prepare(self, case: Case) -> None:
        """Build the part of the network and the pipeline."""
        self._case = FeatureCase(**case)
        network = keras_network(self._case.network, self._case.weights)
        outputs = {name: network.get_layer(name).output for name in self._case.modules}
        self._part = keras.Model(network.input, outputs)
        files = tf.data.Dataset.from_tensor_slices(self._case.images)
        inputs = files.map(_read, num_parallel_calls=tf.data.AUTOTUNE)
        self._batches = inputs.batch(self._case.batch_size).prefetch(tf.data.AUTOTUNE)

    def run(self) -> Result:
        """Extract the features."""
        return dict(self._part.predict(self._batches, verbose=0))


def _read(path: Any) -> Any:
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    resized = tf.image.resize(image, KERAS_PIXELS, antialias=True)
    return keras.applications.mobilenet_v2.preprocess_input(resized)


if __name__ == "__main__":
    main(BareKeras)
