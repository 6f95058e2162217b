"""Complete models as `.keras` or `.h5` files, built and run in TensorFlow's process."""

from __future__ import annotations

from pathlib import Path

from ...backends.base import NetworkError, RunnableModel
from ...backends.children.guests import GuestRuntime
from ...backends.modules import Structure
from ...backends.tensorflow.model import KerasNetwork, KerasWeights, TensorFlowRuntime
from ...errors import (
    InvalidWeightsError,
    ThingsvisionError,
    WeightsMismatchError,
    input_shape_error,
)
from ..uploads.guests import check_upload, guest_of
from ..uploads.records import UploadRecord


def open_keras(
    path: Path, record: UploadRecord, tensorflow: TensorFlowRuntime, guests: GuestRuntime
) -> KerasModelFile:
    """Return the model in a `.keras` or `.h5` file."""
    return KerasModelFile(path, record.called, tensorflow, guests)


class KerasModelFile:
    """A model in a file, checked by a guest and read by Keras in another."""

    image_counts: tuple[int, int | None] = (1, None)

    def __init__(
        self, path: Path, called: str, tensorflow: TensorFlowRuntime, guests: GuestRuntime
    ) -> None:
        check_upload(path, called, guests)
        tensorflow = tensorflow.confine(guest_of(path, called, guests, tensorflow.template))
        self._called = called
        self._tensorflow = tensorflow
        self._network = KerasNetwork(archive=str(path))
        try:
            architecture = tensorflow.describe(self._network)
        except (InvalidWeightsError, WeightsMismatchError) as error:
            raise self._with_name(error) from error
        self._structure = architecture.structure
        self.input_shape: tuple[int | None, ...] = architecture.input_shape

    def structure(self, shape: tuple[int, ...], _counts: tuple[int, int]) -> Structure:
        """Return the layers for an input size, which is the model's own if it has any."""
        if None not in self.input_shape:
            return self._structure
        try:
            return self._tensorflow.describe(self._network, shape).structure
        except NetworkError as error:
            raise input_shape_error(self._called, shape, error) from error
        except InvalidWeightsError as error:
            raise self._with_name(error) from error

    def _with_name(self, error: ThingsvisionError) -> ThingsvisionError:
        return InvalidWeightsError(
            f"{self._called} can't be used: {error}", field=error.field, subject=self._called
        )

    def load(self, device: str) -> RunnableModel:
        """Load the network onto a device."""
        return self._tensorflow.load(self._network, KerasWeights(), device)
