"""Where the inputs of a stream lie: side by side in buffers, so that a batch is not copied."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.staging import staging
from ...inputs import InputSpec

Array = npt.NDArray[Any]

_BUFFER_BYTES = 128 * 2**20
"""A larger batch is of several buffers."""
_SHARED_BATCH_IMAGES = 16
"""Images of a buffer if batches are of whatever is ready, which may be a single image."""


class InputBuffer:
    """Memory for consecutive inputs of a stream, taken from the pool when the first is ready.

    It returns to the pool when nothing refers to its inputs any more.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self._shape, self._dtype = shape, dtype
        self._inputs: Array | None = None
        self._lock = threading.Lock()

    @property
    def inputs(self) -> Array:
        """The inputs, images x shape."""
        with self._lock:
            if self._inputs is None:
                self._inputs = staging().array(self._shape, self._dtype)
            return self._inputs


class Slot:
    """The place of one input in a buffer."""

    def __init__(self, buffer: InputBuffer, row: int) -> None:
        self.buffer = buffer
        self.row = row
        self.is_filled = False

    @property
    def place(self) -> Array:
        """The input's memory."""
        place: Array = self.buffer.inputs[self.row]
        return place

    def fill(self, values: Any) -> Array:
        """Copy an input here unless it is here, and return it; one of another type stays there."""
        found, place = np.asarray(values), self.place
        if (found.shape, found.dtype) != (place.shape, place.dtype):
            return found
        if not np.may_share_memory(found, place):
            np.copyto(place, found)
        self.is_filled = True
        return place


class InputSlots:
    """The slots of a stream, in the order of its images.

    Batches of an exact stream are whole buffers, unless these would be too large.
    """

    def __init__(self, spec: InputSpec, batch_size: int, *, exact: bool) -> None:
        most = batch_size if exact else min(batch_size, _SHARED_BATCH_IMAGES)
        input_bytes = max(1, prod(spec.shape) * np.dtype(spec.dtype).itemsize)
        self._shape = (min(most, max(1, _BUFFER_BYTES // input_bytes)), *spec.shape)
        self._dtype = spec.dtype
        self._batch_size = batch_size if exact else 0
        self._count = 0
        self._buffer: InputBuffer | None = None
        self._row = 0

    def take(self) -> Slot:
        """Return the next image's slot."""
        starts_batch = self._batch_size and self._count % self._batch_size == 0
        if self._buffer is None or starts_batch or self._row == self._shape[0]:
            self._buffer, self._row = InputBuffer(self._shape, self._dtype), 0
        slot = Slot(self._buffer, self._row)
        self._count += 1
        self._row += 1
        return slot

    def close(self) -> None:
        """Let go of the buffer, whose inputs nobody reads any more."""
        self._buffer = None


def join_neighbours(inputs: Sequence[tuple[Any, Slot | None]]) -> list[Array]:
    """Return inputs, each with its slot if it has one, as pieces of a batch: images x shape.

    Inputs that lie side by side are one piece, which is not copied.
    """
    groups = groupby(enumerate(inputs), _neighbourhood)
    return [_piece([one for _, one in members]) for _, members in groups]


def _neighbourhood(numbered: tuple[int, tuple[Any, Slot | None]]) -> tuple[int, int]:
    """Return a key that only consecutive inputs share which lie side by side."""
    place, (_, slot) = numbered
    return (id(slot.buffer), place - slot.row) if slot and slot.is_filled else (0, place)


def _piece(neighbours: Sequence[tuple[Any, Slot | None]]) -> Array:
    values, slot = neighbours[0]
    if slot is None or not slot.is_filled:
        return np.asarray(values)[np.newaxis]
    return slot.buffer.inputs[slot.row : slot.row + len(neighbours)]
