"""Complete models as ONNX files, run by onnxruntime without a conversion that changes values."""

from __future__ import annotations

from pathlib import Path

from ...backends.base import RunnableModel
from ...backends.device_faults import says_out_of_memory
from ...backends.modules import Structure
from ...errors import input_shape_error, no_memory_error
from ..uploads.onnx_check import image_input, read_onnx


class OnnxFile:
    """A model in a file, checked again before it is loaded."""

    def __init__(self, path: Path, called: str) -> None:
        self._path, self._called = path, called
        dims = image_input(read_onnx(path, called)).type.tensor_type.shape.dim
        images, *shape = (dim.dim_value or None for dim in dims)
        self.image_counts: tuple[int, int | None] = (images or 1, images)
        self.input_shape: tuple[int | None, ...] = tuple(shape)

    def structure(self, shape: tuple[int, ...], counts: tuple[int, int]) -> Structure:
        """Return the outputs of the model's operators as modules."""
        from ...backends.onnx.model import OnnxError, reason_of
        from ...backends.onnx.structure import describe

        model = read_onnx(self._path, self._called)
        try:
            return describe(model, image_input(model).name, shape, counts)
        except OnnxError as error:
            if says_out_of_memory(str(error)):
                raise no_memory_error(self._called, shape, reason_of(error)) from error
            raise input_shape_error(self._called, shape, reason_of(error)) from error

    def load(self, device: str) -> RunnableModel:
        """Load the model onto a device."""
        from ...backends.onnx.model import OnnxModel

        model = read_onnx(self._path, self._called)
        return OnnxModel(model, image_input(model).name, device)
