"""Complete models as `.keras` archives, built and run in TensorFlow's process."""

from __future__ import annotations

from pathlib import Path

from ...backends.base import RunnableModel
from ...backends.modules import Structure
from ...backends.tensorflow.model import KerasNetwork, KerasWeights, TensorFlowRuntime
from ...errors import InvalidRequestError, InvalidWeightsError, format_shape
from ..uploads.keras_archive import check_keras_archive


class KerasArchive:
    """A model in a file, checked again before Keras reads it."""

    image_counts: tuple[int, int | None] = (1, None)

    def __init__(self, path: Path, called: str, tensorflow: TensorFlowRuntime) -> None:
        check_keras_archive(path, called)
        self._tensorflow = tensorflow
        self._network = KerasNetwork(archive=str(path))
        architecture = tensorflow.describe(self._network)
        if None in architecture.input_shape:
            raise InvalidWeightsError(
                f"the input of {called} must have a fixed height and width, got "
                f"{format_shape(architecture.input_shape)}: save the model with a keras.Input of "
                "fixed size"
            )
        self._structure = architecture.structure
        self.input_shape: tuple[int | None, ...] = architecture.input_shape

    def structure(self, shape: tuple[int, ...], _counts: tuple[int, int]) -> Structure:
        """Return the layers, as Keras built them for the model's own input size."""
        if shape != self.input_shape:
            sentence = (
                f"its input must be {format_shape(self.input_shape)}, got {format_shape(shape)}"
            )
            raise InvalidRequestError(sentence, field="input")
        return self._structure

    def load(self, device: str) -> RunnableModel:
        """Load the network onto a device."""
        return self._tensorflow.load(self._network, KerasWeights(), device)
