"""What all file formats share: columns, a writer of rows, checks."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ..arrays import Array
from ..errors import InvalidRequestError

FEATURES = "features"
"""Name of an array without a name."""

ALONE = frozenset({FEATURES, "targets"})
"""Names that are not modules: a file with one such array does not name modules."""

NUMBERS = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""The supported types of values, by numpy's names."""

_T = TypeVar("_T")

_BROKEN = (OSError, ValueError, LookupError, RuntimeError, EOFError, zipfile.BadZipFile)


def _reason(error: Exception) -> str:
    """Return why a file can't be read; libraries advise to unpickle it, or name only an index."""
    text = str(error)
    if "Object arrays" in text:
        return "it has Python objects, which are not read, since that could run code."
    is_told = text and "pickle" not in text and not isinstance(error, LookupError)
    told = f" ({text.rstrip('.')})" if is_told else ""
    return f"it is damaged, or of another format{told}."


@dataclass(frozen=True)
class Column:
    """The features of one module: its name, the shape of a row, and numpy's name of the type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Length of one row, bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Layout:
    """The content of a file: columns of `count` rows each, and the names of the rows if known."""

    columns: tuple[Column, ...]
    count: int
    names: tuple[str, ...] | None = None

    @property
    def is_alone(self) -> bool:
        """Tell whether the file has one array, which is not a module."""
        return len(self.columns) == 1 and self.columns[0].name in ALONE

    @property
    def byte_count(self) -> int:
        """Length of all values, bytes."""
        return self.count * sum(column.row_bytes for column in self.columns)

    def shape_of(self, column: Column) -> tuple[int, ...]:
        """Return the shape of a column, rows included."""
        return (self.count, *column.shape)


def texts_in(values: Any) -> list[str] | None:
    """Return a list of texts in a file, such as the names of rows; None if it is something else.

    Values may be texts or UTF-8, n, n x 1 or 1 x n.
    """
    array = np.asarray(values)
    is_list = array.ndim == 1 or (array.ndim == 2 and 1 in array.shape)
    if not is_list or array.dtype.kind not in "OSUT":
        return None
    found = array.ravel().tolist()
    if not all(isinstance(one, (str, bytes)) for one in found):
        return None
    return [one.decode() if isinstance(one, bytes) else one for one in found]


class Writer(Protocol):
    """Takes rows in the order of the file."""

    def write(self, rows: Sequence[Array]) -> None:
        """Write the next rows of every column: n x the column's shape, with the same n for all."""


Opener = Callable[[Path, Layout], AbstractContextManager[Writer]]
"""Creates a file, which is complete only if the block succeeds."""

PiecesOpener = Callable[[Path, Layout, Sequence[int]], AbstractContextManager[Writer]]
"""Like Opener, with the rows in pieces; the numbers are the rows where pieces end."""


@dataclass(frozen=True)
class FileFormat:
    """One row of FORMATS.

    `suffix` is the ending of files, without a dot, and `other_suffixes` are endings of files that
    are read as well. `require` raises MissingDependencyError if a
    package is missing. `dtypes` are the types of values that the format can hold, `max_dims` is
    the largest number of dimensions of an array, rows included, `reserved` are names that a column
    can't have. `pieces_opener` is for formats whose splits are one file, `image_writer` for formats
    that can hold a variable per row of one array, named after the row. `names_key` is the name of
    the rows' names in a file; empty: the format can't hold them. `texts_reader` returns all lists
    of texts in a file, also of other programs, by their names.
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
    names_key: str = ""
    texts_reader: Callable[[Path], dict[str, list[str]]] | None = None
    other_suffixes: tuple[str, ...] = ()

    def paths(self, folder: Path, stem: str) -> list[Path]:
        """Return the paths that a file of that stem may have in a folder, its own ending first."""
        return [folder / f"{stem}.{ending}" for ending in (self.suffix, *self.other_suffixes)]

    def find_file(self, folder: Path, stem: str) -> Path:
        """Return the file of that stem in a folder, with the first ending that there is.

        If there is none, the path is the one of `suffix`.
        """
        paths = self.paths(folder, stem)
        return next((path for path in paths if path.is_file()), paths[0])

    @contextmanager
    def open_writer(
        self,
        path: Path,
        columns: Sequence[Column],
        count: int,
        *,
        names: Sequence[str] | None = None,
    ) -> Iterator[Writer]:
        """Yield a writer of `count` rows to the file `path`, in flat memory.

        `names` of the rows are stored if the format can. Raises InvalidRequestError for columns
        that the format can't hold, for rows that don't match them, and at the end for missing rows.
        """
        layout = self._layout(columns, count, names)
        with self.opener(path, layout) as writer:
            checked = _CheckedWriter(writer, layout)
            yield checked
            checked.finish()

    @contextmanager
    def open_pieces(self, path: Path, layout: Layout, stops: Sequence[int]) -> Iterator[Writer]:
        """Yield a writer of one file with the rows in pieces, which end at the rows `stops`.

        Only for formats with a `pieces_opener`. Raises what `open_writer` raises.
        """
        assert self.pieces_opener is not None  # noqa: S101 - callers check first
        checked_layout = self._layout(layout.columns, layout.count, layout.names)
        with self.pieces_opener(path, checked_layout, stops) as writer:
            checked = _CheckedWriter(writer, checked_layout)
            yield checked
            checked.finish()

    def read(self, path: Path) -> dict[str, Array]:
        """Return the arrays of a file by column name, a single one as `features`.

        Raises InvalidRequestError for a file that is missing or has another format.
        """
        arrays = self._run(self.reader, path)
        if not arrays:
            raise InvalidRequestError(f"{path} has no features: it has no arrays of numbers.")
        # MATLAB's columns are contiguous; names are remembered of contiguous rows.
        return {name: np.asarray(array, order="C") for name, array in arrays.items()}

    def read_texts(self, path: Path) -> Mapping[str, list[str]]:
        """Return the lists of texts in a file, such as names of rows; raises what `read` does."""
        return {} if self.texts_reader is None else self._run(self.texts_reader, path)

    def read_names(self, path: Path) -> list[str] | None:
        """Return the names of the rows in a file; None if it has none, or the format can't."""
        return self.read_texts(path).get(self.names_key) if self.names_key else None

    def _run(self, reader: Callable[[Path], dict[str, _T]], path: Path) -> dict[str, _T]:
        if not path.is_file():
            raise InvalidRequestError(f"There is no file {str(path)!r}.")
        if not path.stat().st_size:
            raise InvalidRequestError(f"{path} has no features: it is empty (0 bytes).")
        try:
            return reader(path)
        except InvalidRequestError:
            raise
        except (*_BROKEN, pickle.UnpicklingError) as error:
            raise InvalidRequestError(
                f"Can't read features from {path} as {self.name}: {_reason(error)}"
            ) from error

    def check(self, columns: Sequence[Column]) -> None:
        """Raise InvalidRequestError for columns that this format can't hold.

        MissingDependencyError if it needs a package that is not installed.
        """
        if self.require is not None:
            self.require()
        if len(columns) != 1 and not self.holds_several:
            raise InvalidRequestError(
                f"{self.name} holds one array, got {len(columns)}: use a format that holds "
                "several, such as npz or hdf5, or save them one by one."
            )
        for column in columns:
            self._check_column(column)

    def _check_column(self, column: Column) -> None:
        if column.dtype not in self.dtypes:
            raise InvalidRequestError(
                f"{self.name} can't hold {column.name!r}: its type must be one of "
                f"{', '.join(sorted(self.dtypes))}, got {column.dtype}."
            )
        if self.max_dims is not None and len(column.shape) >= self.max_dims:
            shape = " x ".join(map(str, ("images", *column.shape)))
            raise InvalidRequestError(
                f"{self.name} holds at most {self.max_dims} dimensions, got {shape} for "
                f"{column.name!r}: {self.beyond_dims}."
            )
        if column.name in self.reserved:
            raise InvalidRequestError(
                f"A column of a {self.name} file can't be called {column.name!r}: the format "
                "reserves this name."
            )

    def _layout(self, columns: Sequence[Column], count: int, names: Sequence[str] | None) -> Layout:
        self.check(columns)
        empty = [column for column in columns if 0 in column.shape]
        if not columns or empty or count < 1:
            what = f"{empty[0].name!r} has rows of shape {empty[0].shape}" if empty else "no rows"
            raise InvalidRequestError(f"There is nothing to save: {what}.")
        if names is not None and len(names) != count:
            raise InvalidRequestError(
                f"`names` must have an entry per row ({count}), got {len(names)}."
            )
        return Layout(tuple(columns), count, None if names is None else tuple(names))


class _CheckedWriter:
    """Checks rows against the layout, and passes them on in C order."""

    def __init__(self, writer: Writer, layout: Layout) -> None:
        self._writer = writer
        self._layout = layout
        self._count = 0

    def write(self, rows: Sequence[Array]) -> None:
        columns = self._layout.columns
        if len(rows) != len(columns):
            raise InvalidRequestError(
                f"There must be {len(columns)} arrays, one per column, got {len(rows)}."
            )
        for column, array in zip(columns, rows, strict=True):
            if array.shape != (len(rows[0]), *column.shape) or array.dtype != column.dtype:
                raise InvalidRequestError(
                    f"{column.name!r} must have rows of shape {column.shape}, {column.dtype}; got "
                    f"an array of shape {array.shape}, {array.dtype}."
                )
        self._count += len(rows[0])
        if self._count > self._layout.count:
            raise InvalidRequestError(
                f"There must be {self._layout.count} rows, got at least {self._count}."
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
                f"There must be {self._layout.count} rows, got only {self._count}."
            )
