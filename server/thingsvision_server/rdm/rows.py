"""The interface through which RDMs read features: a few values of all rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

MIN_VALUES = 512

Array = npt.NDArray[Any]


class Rows(Protocol):
    """N x P features, float32 or float64, that may not be in memory."""

    @property
    def row_count(self) -> int:
        """N."""

    @property
    def value_count(self) -> int:
        """P."""

    @property
    def tile_values(self) -> int:
        """Blocks that start and end at multiples of this number are the fastest to read."""

    def values(self, start: int, stop: int) -> Array:
        """Return values [start, stop) of all rows, N x (stop - start)."""

    def values_of(self, indices: Array, start: int, stop: int) -> Array:
        """Return values [start, stop) of the n rows at ascending indices, n x (stop - start)."""


@dataclass(frozen=True)
class ArrayRows:
    """An N x P array as Rows."""

    array: Array
    tile_values: int = 1

    @property
    def row_count(self) -> int:
        """N."""
        return len(self.array)

    @property
    def value_count(self) -> int:
        """P."""
        return int(self.array.shape[1])

    def values(self, start: int, stop: int) -> Array:
        """Return values [start, stop) of all rows, N x (stop - start)."""
        return self.array[:, start:stop]

    def values_of(self, indices: Array, start: int, stop: int) -> Array:
        """Return values [start, stop) of the n rows at ascending indices, n x (stop - start)."""
        return self.array[indices, start:stop]


def block_values(rows: Rows, row_count: int, block_bytes: int) -> int:
    """Return how many values of `row_count` rows fit `block_bytes` as float64, in whole tiles.

    At least about `MIN_VALUES`: adding a product to N x N sums costs the same for any number.
    """
    fitting = max(block_bytes // (8 * row_count), MIN_VALUES) // rows.tile_values
    return min(rows.value_count, max(1, fitting) * rows.tile_values)


def spans(count: int, length: int) -> Iterator[tuple[int, int]]:
    """Split [0, count) into [start, stop) of `length`; the last may be shorter."""
    for start in range(0, count, length):
        yield start, min(count, start + length)
