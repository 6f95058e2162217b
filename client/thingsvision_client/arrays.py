"""Arrays: types for annotations, conversion of what users pass, a store that grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

Float64Array = npt.NDArray[np.float64]


def as_array(value: Any) -> Array:
    """Return a value as an array, sharing memory if possible; a tensor loses its gradients."""
    if hasattr(value, "detach"):
        # numpy can't convert PyTorch's tensors with gradients or on a GPU.
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)


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
