"""Stores the features of all images of one request: in memory, and beyond a budget on disk.

Rows arrive one after another and are read a few values of all rows at a time, so both orders must
be cheap. Rows are therefore collected in groups of some MiB, and a group stores its rows in tiles
of `TILE_VALUES` values: tile after tile, and row after row within each tile. A group is written in
one sequential write, and any run of whole tiles is one contiguous read per group: for
10,000 x 290,400 float32 (11.6 GB), 1,024 values of all rows are 370 reads of 108 KiB, whereas a
row-major file would need 10,000 reads of 4 KiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .spill import SpillFile, SpillQuota

TILE_VALUES = 256
"""Values of a row that are stored together: 1 KiB of float32, enough for a fast copy."""

GROUP_BYTES = 32 * 1024 * 1024
"""Largest size of a group, unless a single row is larger."""

Array = npt.NDArray[Any]


class SpoolColumn(NamedTuple):
    """A column of features: its name, the number of values in a row, `float32` or `float64`."""

    name: str
    value_count: int
    dtype: str = "float32"

    @property
    def row_bytes(self) -> int:
        """Length of one row, bytes."""
        return self.value_count * np.dtype(self.dtype).itemsize


@dataclass
class _Group:
    """Up to `capacity` rows: per column a flat array in memory or, once spilled, an offset."""

    columns: Sequence[SpoolColumn]
    capacity: int
    row_count: int = 0

    def __post_init__(self) -> None:
        self._offsets: list[int] = []
        self._arrays = [np.empty(c.value_count * self.capacity, c.dtype) for c in self.columns]

    @property
    def is_full(self) -> bool:
        return self.row_count == self.capacity

    @property
    def held_bytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    def fill(self, arrays: Sequence[Array]) -> int:
        """Copy as many rows as fit, and return their number."""
        count = min(len(arrays[0]), self.capacity - self.row_count)
        for array, flat in zip(arrays, self._arrays, strict=True):
            for rows, tiles in _tile_views(array[:count], flat, self.capacity, self.row_count):
                tiles[...] = rows
        self.row_count += count
        return count

    def spill(self, file: SpillFile) -> None:
        """Write all columns to the file, then free their memory."""
        self._offsets = [file.append(array) for array in self._arrays]
        self._arrays = []

    def read(self, column: int, values: slice, file: SpillFile) -> Array:
        """Return the tiles of these values, flat; `start` and `stop` must be edges of tiles."""
        start, stop = values.start * self.capacity, values.stop * self.capacity
        if self._arrays:
            return self._arrays[column][start:stop]
        tiles = np.empty(stop - start, self.columns[column].dtype)
        file.read_into(tiles, self._offsets[column] + start * tiles.itemsize)
        return tiles


def _tile_views(
    rows: Array, flat: Array, capacity: int, first: int
) -> Iterator[tuple[Array, Array]]:
    """Yield equally shaped views of n x W rows and of their places in the tiles of a group.

    `flat` holds the tiles of `capacity` rows; the n rows begin at row `first` of the group.
    """
    count, width = rows.shape
    tile_count = width // TILE_VALUES
    whole = tile_count * TILE_VALUES
    tiles = flat[: whole * capacity].reshape(tile_count, capacity, TILE_VALUES)
    shape = (count, tile_count, TILE_VALUES)
    yield rows[:, :whole].reshape(shape), tiles[:, first : first + count].swapaxes(0, 1)
    rest = flat[whole * capacity :].reshape(capacity, width - whole)
    yield rows[:, whole:], rest[first : first + count]


class FeatureSpool:
    """Collects rows of several columns of features, N unknown in advance; a context manager.

    `memory_budget_bytes` bounds the rows held in memory; the rest goes to an unnamed temporary
    file in `directory` (None: the system's), which should be on a disk, not in memory. Only one
    thread may append at a time; any number may read between appends. Appending may write to disk.
    """

    def __init__(
        self,
        columns: Sequence[tuple[str, int, str]],
        memory_budget_bytes: int,
        directory: Path | None = None,
        quota: SpillQuota | None = None,
    ) -> None:
        self.columns = tuple(SpoolColumn(*column) for column in columns)
        self._index = {column.name: index for index, column in enumerate(self.columns)}
        if len(self._index) < len(self.columns):
            raise ValueError(f"two columns have the same name: {[c.name for c in self.columns]}")
        self.row_count = 0
        self._budget_bytes = memory_budget_bytes
        self._row_bytes = max(1, sum(column.row_bytes for column in self.columns))
        group_bytes = min(GROUP_BYTES, memory_budget_bytes // 2)
        self._capacity = max(1, group_bytes // self._row_bytes)
        self._groups: list[_Group] = []
        self._is_closed = False
        self._quota = quota or SpillQuota()
        self._file = SpillFile(directory, self._quota)

    def __enter__(self) -> FeatureSpool:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def disk_bytes(self) -> int:
        """Return the bytes on disk."""
        return self._file.byte_count

    def expect(self, row_count: int) -> None:
        """Raise ExhaustedError if so many rows would spill more than the quota."""
        self._quota.check(row_count * self._row_bytes - self._budget_bytes)

    def append(self, arrays: Sequence[Array]) -> None:
        """Copy n more rows: an array n x value_count per column, of the column's dtype.

        Raises StorageError, naming directory and bytes, if the disk is full; ValueError if
        the arrays do not fit the columns.
        """
        self._check(arrays)
        count, done = len(arrays[0]), 0
        while done < count:
            taken = self._open_group().fill([array[done:] for array in arrays])
            done += taken
            self.row_count += taken

    def rows(self, column: str) -> SpooledRows:
        """Return a reader of one column; KeyError if there is no column of that name."""
        return SpooledRows(self, self._index[column])

    def read(self, column: int, rows: slice, values: slice) -> Array:
        """Return a new array of rows x values of a column; both slices must have start and stop."""
        if self._is_closed:
            raise ValueError("the spool is closed")
        spec = self.columns[column]
        start = values.start - values.start % TILE_VALUES
        stop = min(spec.value_count, values.stop + -values.stop % TILE_VALUES)
        block = np.empty((rows.stop - rows.start, stop - start), spec.dtype)
        for index in range(rows.start // self._capacity, -(-rows.stop // self._capacity)):
            base = index * self._capacity
            first, last = max(rows.start, base), min(rows.stop, base + self._capacity)
            flat = self._groups[index].read(column, slice(start, stop), self._file)
            target = block[first - rows.start : last - rows.start]
            for part, tiles in _tile_views(target, flat, self._capacity, first - base):
                part[...] = tiles
        return block[:, values.start - start : values.stop - start]

    def pick(self, column: int, indices: Array, values: slice) -> Array:
        """Return the values of the rows at ascending indices, as `read` does."""
        picked = np.empty((len(indices), values.stop - values.start), self.columns[column].dtype)
        groups = indices // self._capacity
        for group in np.unique(groups):
            places = np.flatnonzero(groups == group)
            first, last = int(indices[places[0]]), int(indices[places[-1]])
            near = self.read(column, slice(first, last + 1), values)
            picked[places] = near[indices[places] - first]
        return picked

    def close(self) -> None:
        """Free memory and disk; safe to call twice."""
        self._is_closed = True
        self._groups.clear()
        self._file.close()

    def _check(self, arrays: Sequence[Array]) -> None:
        if self._is_closed:
            raise ValueError("the spool is closed")
        found = [(array.shape, array.dtype) for array in arrays]
        count = len(arrays[0]) if arrays else 0
        expected = [((count, c.value_count), np.dtype(c.dtype)) for c in self.columns]
        if found != expected:
            raise ValueError(f"rows must fit the columns, {expected}, got {found}")

    def _open_group(self) -> _Group:
        if not self._groups or self._groups[-1].is_full:
            self._make_room()
            self._groups.append(_Group(self.columns, self._capacity))
        return self._groups[-1]

    def _make_room(self) -> None:
        """Spill the oldest groups until one more fits the budget."""
        held = [group for group in self._groups if group.held_bytes]
        fitting = self._budget_bytes // (self._capacity * self._row_bytes)
        for group in held[: len(held) + 1 - max(1, fitting)]:
            group.spill(self._file)


@dataclass(frozen=True)
class SpooledRows:
    """One column of a spool: N rows of `value_count` values, read in blocks."""

    spool: FeatureSpool
    column: int

    @property
    def row_count(self) -> int:
        """N."""
        return self.spool.row_count

    @property
    def value_count(self) -> int:
        """Values of one row."""
        return self.spool.columns[self.column].value_count

    @property
    def tile_values(self) -> int:
        """Blocks whose edges are multiples of this are read fastest."""
        return TILE_VALUES

    def values(self, start: int, stop: int) -> Array:
        """Return values [start, stop) of all rows, N x (stop - start)."""
        return self.spool.read(self.column, slice(0, self.row_count), slice(start, stop))

    def values_of(self, indices: Array, start: int, stop: int) -> Array:
        """Return values [start, stop) of the n rows at ascending indices, n x (stop - start)."""
        return self.spool.pick(self.column, indices, slice(start, stop))

    def rows(self, start: int, stop: int) -> Array:
        """Return rows [start, stop), (stop - start) x value_count."""
        return self.spool.read(self.column, slice(start, stop), slice(0, self.value_count))
