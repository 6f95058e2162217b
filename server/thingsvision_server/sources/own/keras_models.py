"""Whole models as `.keras` archives, built and run in the process of TensorFlow."""

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

    def __init__(self, path: Path, tensorflow: TensorFlowRuntime) -> None:
        check_keras_archive(path, path.name)
        self._tensorflow = tensorflow
        self._network = KerasNetwork(archive=str(path))
        architecture = tensorflow.describe(self._network)
        if None in architecture.input_shape:
            raise InvalidWeightsError(
                f"{path.name} takes inputs of {format_shape(architecture.input_shape)}: save it "
                "with a keras.Input of fixed height and width"
            )
        self._structure = architecture.structure
        self.input_shape: tuple[int | None, ...] = architecture.input_shape

    def structure(self, shape: tuple[int, ...], _counts: tuple[int, int]) -> Structure:
        """Return the layers, as Keras built them for its own size."""
        if shape != self.input_shape:
            raise InvalidRequestError(f"it takes inputs of {self.input_shape}", field="input")
        return self._structure

    def load(self, device: str) -> RunnableModel:
        """Load the network onto a device."""
        return self._tensorflow.load(self._network, KerasWeights(), device)
