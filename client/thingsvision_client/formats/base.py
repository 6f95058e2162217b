"""What every file format is made of: columns, a writer of rows, checks; knows none of them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..arrays import Array
from ..errors import InvalidRequestError

FEATURES = "features"
"""Name of an array that has none of its own."""

ALONE = frozenset({FEATURES, "targets"})
"""Names that stand for no module: a file of such an array alone names no modules."""

NUMBERS = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""The types of values that there are, as numpy calls them."""

_BROKEN = (OSError, ValueError, LookupError, RuntimeError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Column:
    """The features of one module: its name, the shape of one row, and numpy's name of the type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Length of one row, bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Layout:
    """What a file will hold: columns of `count` rows each, and the rows' names if known."""

    columns: tuple[Column, ...]
    count: int
    names: tuple[str, ...] | None = None

    @property
    def is_alone(self) -> bool:
        """Tell whether there is one array that stands for no module."""
        return len(self.columns) == 1 and self.columns[0].name in ALONE

    @property
    def byte_count(self) -> int:
        """Length of all values, bytes."""
        return self.count * sum(column.row_bytes for column in self.columns)

    def shape_of(self, column: Column) -> tuple[int, ...]:
        """Return rows x the shape of one."""
        return (self.count, *column.shape)


class Writer(Protocol):
    """Takes rows in the order of the file."""

    def write(self, rows: Sequence[Array]) -> None:
        """Write the next rows of every column: n x the column's shape, the same n in all."""


Opener = Callable[[Path, Layout], AbstractContextManager[Writer]]
"""Makes a file; it is complete when the block ends well, of no use when it does not."""

PiecesOpener = Callable[[Path, Layout, Sequence[int]], AbstractContextManager[Writer]]
"""As Opener, but has the rows in pieces; the numbers say at which row each ends."""


@dataclass(frozen=True)
class FileFormat:
    """One row of FORMATS.

    `suffix` is the ending of files, without a dot. `require` raises MissingDependencyError
    where a package is not there. `dtypes` are the types of values that it keeps, `max_dims` is how
    many dimensions an array may have, rows included, `reserved` are names that a column can't
    have. `pieces_opener`: where a split is one file that holds the pieces. `image_writer`:
    where a file can have a variable per row of one array, called as the row.
    """

    name: str
    suffix: str
    holds_several: bool
    opener: Opener
    reader: Callable[[Path], dict[str, Array]]
    require: Callable[[], Any] | None = None
    dtypes: frozenset[str] = NUMBERS
    max_dims: int | None = None
    beyond_dims: str = ""
    reserved: frozenset[str] = frozenset()
    pieces_opener: PiecesOpener | None = None
    image_writer: Callable[[Path, Array, Sequence[str]], None] | None = None

    @contextmanager
    def open_writer(
        self,
        path: Path,
        columns: Sequence[Column],
        count: int,
        *,
        names: Sequence[str] | None = None,
    ) -> Iterator[Writer]:
        """Give a writer of `count` rows into the file `path`, whose memory stays flat.

        `names` of the rows go in where the format has a place for them. Raises
        InvalidRequestError for columns that the format can't hold, for rows that are not as
        announced, and at the end where some are missing.
        """
        layout = self._layout(columns, count, names)
        with self.opener(path, layout) as writer:
            checked = _CheckedWriter(writer, layout)
            yield checked
            checked.finish()

    @contextmanager
    def open_pieces(self, path: Path, layout: Layout, stops: Sequence[int]) -> Iterator[Writer]:
        """Give a writer of one file that holds the rows in pieces, each ending at a row of `stops`.

        Only where `pieces_opener` is there. Raises what `open_writer` raises.
        """
        assert self.pieces_opener is not None  # noqa: S101 - callers ask before
        checked_layout = self._layout(layout.columns, layout.count, layout.names)
        with self.pieces_opener(path, checked_layout, stops) as writer:
            checked = _CheckedWriter(writer, checked_layout)
            yield checked
            checked.finish()

    def read(self, path: Path) -> dict[str, Array]:
        """Return the arrays of a file, whole, by the columns' names; one alone as `features`.

        Raises InvalidRequestError for a file that is not there, or not of this format.
        """
        try:
            return self.reader(path)
        except InvalidRequestError:
            raise
        except (*_BROKEN, pickle.UnpicklingError) as error:
            raise InvalidRequestError(
                f"Can't read features from {path} as {self.name}: {error}"
            ) from error

    def check(self, columns: Sequence[Column]) -> None:
        """Raise InvalidRequestError for columns that this format can't hold.

        MissingDependencyError where it needs a package that is not there.
        """
        if self.require is not None:
            self.require()
        if len(columns) != 1 and not self.holds_several:
            raise InvalidRequestError(
                f"{self.name} holds one array, not {len(columns)}: use a format that holds "
                "several, such as npz or hdf5, or save one by one."
            )
        for column in columns:
            self._check_column(column)

    def _check_column(self, column: Column) -> None:
        if column.dtype not in self.dtypes:
            raise InvalidRequestError(
                f"{self.name} can't hold {column.name!r}, whose values are of type "
                f"{column.dtype}; valid: {', '.join(sorted(self.dtypes))}."
            )
        if self.max_dims is not None and len(column.shape) >= self.max_dims:
            shape = " x ".join(map(str, ("images", *column.shape)))
            raise InvalidRequestError(
                f"{self.name} holds at most {self.max_dims} dimensions, but {column.name!r} is "
                f"{shape}: {self.beyond_dims}."
            )
        if column.name in self.reserved:
            raise InvalidRequestError(
                f"A column of a {self.name} file can't be called {column.name!r}: the name is "
                "used for something else there."
            )

    def _layout(self, columns: Sequence[Column], count: int, names: Sequence[str] | None) -> Layout:
        self.check(columns)
        empty = [column for column in columns if 0 in column.shape]
        if not columns or empty or count < 1:
            what = f"{empty[0].name!r} has the row shape {empty[0].shape}" if empty else "no rows"
            raise InvalidRequestError(f"There is nothing to save: {what}.")
        if names is not None and len(names) != count:
            raise InvalidRequestError(f"There are {len(names)} names for {count} rows.")
        return Layout(tuple(columns), count, None if names is None else tuple(names))


class _CheckedWriter:
    """Passes rows on that are as announced, in C order."""

    def __init__(self, writer: Writer, layout: Layout) -> None:
        self._writer = writer
        self._layout = layout
        self._count = 0

    def write(self, rows: Sequence[Array]) -> None:
        columns = self._layout.columns
        if len(rows) != len(columns):
            raise InvalidRequestError(f"{len(rows)} arrays came for {len(columns)} columns.")
        for column, array in zip(columns, rows, strict=True):
            if array.shape != (len(rows[0]), *column.shape) or array.dtype != column.dtype:
                raise InvalidRequestError(
                    f"{column.name!r} takes rows of shape {column.shape}, {column.dtype}; it got "
                    f"an array of shape {array.shape}, {array.dtype}."
                )
        self._count += len(rows[0])
        if self._count > self._layout.count:
            raise InvalidRequestError(
                f"{self._layout.count} rows were announced, but at least {self._count} came."
            )
        if len(rows[0]):
            self._writer.write(
                [
                    np.ascontiguousarray(array, column.dtype)
                    for column, array in zip(columns, rows, strict=True)
                ]
            )

    def finish(self) -> None:
        if self._count != self._layout.count:
            raise InvalidRequestError(
                f"{self._layout.count} rows were announced, but only {self._count} came."
            )
