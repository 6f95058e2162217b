"""Arrays: types for annotations, conversion of what users pass, a store that grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidRequestError

Array = npt.NDArray[Any]

Float64Array = npt.NDArray[np.float64]


def as_array(value: Any) -> Array:
    """Return a value as an array, sharing memory if possible; a tensor loses its gradients.

    Raises InvalidRequestError for masked values, which an array would contain as if they were not.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InvalidRequestError(
            f"An array must not have masked values, got {int(np.sum(value.mask)):,}: fill them "
            "with array.filled(numpy.nan), or leave out their rows."
        )
    if hasattr(value, "toarray") and hasattr(value, "nnz"):  # a sparse matrix of scipy
        value = value.toarray()
    if isinstance(value, (list, tuple)) and any(hasattr(one, "detach") for one in value):
        value = [as_array(one) for one in value]
    try:
        return np.asarray(_from_tensor(value) if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of different lengths, say
        what = str(error).rstrip(".")
        raise InvalidRequestError(f"It can't be read as an array: {what}.") from error


def _from_tensor(tensor: Any) -> Any:
    """Return a tensor that numpy can convert: on the CPU, without gradients, of a known type."""
    tensor = tensor.detach().cpu()
    if getattr(tensor, "is_sparse", False) or "sparse" in str(getattr(tensor, "layout", "")):
        tensor = tensor.to_dense()
    if getattr(tensor, "is_quantized", False):
        tensor = tensor.dequantize()
    if hasattr(tensor, "resolve_conj"):
        tensor = tensor.resolve_conj().resolve_neg()
    if any(name in str(tensor.dtype) for name in ("bfloat16", "float8")):
        tensor = tensor.float()
    return tensor


def as_numbers(value: Any, what: str) -> Array:
    """Return real numbers as an array, of their own type if numpy has it, else as float64.

    Raises InvalidRequestError, which calls the value `what`.
    """
    try:
        array = as_array(value)
        if array.dtype.kind in "fiub":
            return array
        # The kinds V are types that numpy lacks, such as TensorFlow's bfloat16.
        if array.dtype.kind in "OV":
            return array.astype(np.float64)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{what} can't be used: {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        why = str(error).rstrip(".")
        raise InvalidRequestError(f"{what} must be an array of real numbers: {why}.") from error
    raise InvalidRequestError(f"{what} must be real numbers, got values of type {array.dtype}.")


def shape_advice(shape: tuple[int, ...]) -> str:
    """Return how an array of a shape that is not images x units becomes so."""
    if 0 in shape or not shape:
        return "give a row for each image"
    if len(shape) == 1:
        return "features[None] is one image, and features[:, None] is one unit of each image"
    return "flatten them with features.reshape(len(features), -1)"


def as_floats(value: Any, what: str) -> Float64Array:
    """Return real numbers as float64; otherwise as `as_numbers`."""
    return as_numbers(value, what).astype(np.float64, copy=False)


def fill_masked(value: Any) -> Any:
    """Return a masked array with NaN in the place of masked values, anything else as it is."""
    if not isinstance(value, np.ma.MaskedArray):
        return value
    kind = value.dtype if value.dtype.kind == "f" else np.dtype(np.float64)
    return np.ma.filled(value.astype(kind), np.nan)


@dataclass
class RowStore:
    """An array that rows are copied into; allocated once if their number is known."""

    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    expected_count: int | None = None

    def __post_init__(self) -> None:
        self.count = 0
        self._array = np.empty((self.expected_count or 0, *self.shape), self.dtype)

    def append(self, rows: Array) -> None:
        """Copy rows x shape behind the rows so far."""
        stop = self.count + len(rows)
        if stop > len(self._array):
            # refcheck=False: no view of this array leaves it before `finish`.
            self._array.resize((max(stop, len(self._array) * 3 // 2), *self.shape), refcheck=False)
        self._array[self.count : stop] = rows
        self.count = stop

    def finish(self) -> Array:
        """Return all rows; the store can't be used afterwards."""
        if self.count != len(self._array):
            self._array.resize((self.count, *self.shape), refcheck=False)
        return self._array
