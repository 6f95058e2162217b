"""Has the rows of a pass written where they are shared with the server, without another copy."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ..base import Rows
from ..staging import Array, StagingPool


class _Places(threading.local):
    """Places for the rows of the calling thread's pass."""

    def __init__(self) -> None:
        self.left: list[Rows] = []


class RowsInPlace(StagingPool):
    """Memory of a process that runs passes for the server: for rows, what both share."""

    def __init__(self) -> None:
        super().__init__()
        self._places = _Places()

    @contextmanager
    def offer(self, places: Sequence[Rows]) -> Iterator[None]:
        """Lend these arrays, in their order, to what asks for such shapes in this thread."""
        self._places.left = list(places)
        try:
            yield
        finally:
            self._places.left = []

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """Return the next place if it has this shape, else other memory."""
        left = self._places.left
        if left and left[0].shape == shape and left[0].dtype == np.dtype(dtype):
            return left.pop(0)
        return super().array(shape, dtype)


def write_rows(places: Sequence[Rows], found: Sequence[Rows]) -> None:
    """Copy rows into their places, except those that are there."""
    for place, rows in zip(places, found, strict=True):
        if place.ctypes.data != rows.ctypes.data or place.shape != rows.shape:
            np.copyto(place, rows)
