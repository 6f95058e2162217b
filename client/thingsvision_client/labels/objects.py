"""Names that the rows and columns of an object carry: tables, xarray, rsatoolbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from .names import are_counted

_UNNAMED_COLUMNS = ("", "Unnamed: 0", "__index_level_0__")
"""What pandas and pyarrow call the column of an index that was not taken as the index."""


@dataclass(frozen=True)
class Labels:
    """A name for each row (or column) of an object, and the place where they stand.

    `where` is for sentences, such as "its index". `is_main` says that the object identifies its
    rows by them; others may be anything, such as categories. `are_texts` says that they are not
    numbers.
    """

    where: str
    names: tuple[str, ...]
    is_main: bool = True
    are_texts: bool = True

    @property
    def are_counted(self) -> bool:
        """Whether they only count the rows: positions."""
        return are_counted(self.names)

    @property
    def are_unique(self) -> bool:
        """Whether each row has a name of its own."""
        return len(set(self.names)) == len(self.names)


@dataclass(frozen=True)
class Labelled:
    """The values of an object, and the labels of each of their axes."""

    values: Any
    axes: tuple[tuple[Labels, ...], ...]

    @property
    def rows(self) -> tuple[Labels, ...]:
        """The labels of the first axis."""
        return self.axes[0]


def labelled(value: Any) -> Labelled | None:
    """Return the values and labels of an object that has any; None for arrays and the like."""
    if isinstance(value, Labelled):
        return value
    for is_such, read in _KINDS:
        if is_such(value):
            return read(value)
    return None


def row_names(value: Any) -> tuple[str, ...] | None:
    """Return the names that identify the rows of an object; None if it has none, or counts them."""
    found = labelled(value)
    if found is None:
        return None
    main = [one for one in found.rows if one.is_main and not one.are_counted]
    main.sort(key=lambda one: not one.are_texts)
    return main[0].names if main else None


def texts_of(values: Iterable[Any]) -> tuple[str, ...]:
    """Return names as texts: bytes and paths are decoded, whole numbers lose their point."""
    return tuple(map(_text, values))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return "/".join(map(_text, value)) if isinstance(value, tuple) else str(value)


def labels_in(where: str, values: Any, *, is_main: bool = True) -> tuple[Labels, ...]:
    """Return labels if values can be names of rows: texts, paths or whole numbers."""
    found = list(values)
    are_texts = not all(isinstance(one, (int, float, np.number, np.bool_)) for one in found)
    names = texts_of(found)
    # Ratings and the like describe rows, but are not names.
    are_whole = all(name.lstrip("-").isdecimal() for name in names)
    if not is_main and not are_texts and not are_whole:
        return ()
    one = Labels(where, names, is_main, are_texts)
    return () if one.are_counted and not is_main else (one,)


def _of_frame(frame: Any) -> Labelled:
    """Return the labels of a pandas DataFrame; of several levels, joined and each by itself."""
    names, columns = frame.columns, [frame.iloc[:, place] for place in range(frame.shape[1])]
    found = _named_by_column(list(names), columns)
    if found is not None:
        return found
    axes = (_of_index("its index", frame.index), _of_index("its columns", names))
    return Labelled(_numbers(frame), axes)


def _of_index(where: str, index: Any) -> tuple[Labels, ...]:
    levels: list[Labels] = []
    if getattr(index, "nlevels", 1) > 1:
        for number in range(index.nlevels):
            level = f"level {number} of {where}"
            levels += labels_in(level, index.get_level_values(number), is_main=False)
    return (*labels_in(where, index), *levels)


def _of_table(table: Any) -> Labelled:
    """Return the labels of a table without an index, as polars and pyarrow have it."""
    is_arrow = hasattr(table, "column_names")
    names = list(table.column_names if is_arrow else table.columns)
    columns = list(table.columns) if is_arrow else [table[name] for name in names]
    found = _named_by_column(names, columns)
    if found is not None:
        return found
    values = np.stack([np.asarray(column) for column in columns], axis=1)
    return Labelled(values, ((), _of_columns(names)))


def _named_by_column(names: Sequence[Any], columns: Sequence[Any]) -> Labelled | None:
    """Return a table with one column more than rows, which has the names of the rows."""
    if not columns or len(columns) != len(columns[0]) + 1:
        return None
    texts = [
        place
        for place, column in enumerate(columns)
        if names[place] in _UNNAMED_COLUMNS or _are_texts(column)
    ]
    if len(texts) != 1:
        return None
    place = texts[0]
    where = f"its column {names[place]!r}"
    rest = [*range(place), *range(place + 1, len(columns))]
    values = np.stack([np.asarray(columns[other]) for other in rest], axis=1)
    # Columns that are only counted, the names' own included, are not named.
    is_counted = are_counted(texts_of(names))
    titles = () if is_counted else _of_columns([names[other] for other in rest])
    return Labelled(values, (labels_in(where, np.asarray(columns[place]).tolist()), titles))


def _of_columns(names: Sequence[Any]) -> tuple[Labels, ...]:
    if all(name == f"column_{number}" for number, name in enumerate(names)):  # of polars
        return ()
    return labels_in("its columns", names)


def _are_texts(column: Any) -> bool:
    values = np.asarray(column)
    return values.dtype.kind in "UST" or (
        values.dtype.kind == "O" and all(isinstance(one, (str, bytes)) for one in values)
    )


def _numbers(frame: Any) -> Any:
    values = np.asarray(frame)
    if values.dtype.kind != "O":
        return values
    try:  # pandas' own missing values
        return frame.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        return values


def _of_data_array(array: Any) -> Labelled:
    def labels(axis: str) -> tuple[Labels, ...]:
        found: list[Labels] = []
        for name, coordinate in array.coords.items():
            if coordinate.dims == (axis,):
                where = f"its coordinate {name!r}"
                found += labels_in(where, coordinate.values.tolist(), is_main=name == axis)
        return tuple(found)

    return Labelled(np.asarray(array.values), tuple(map(labels, array.dims)))


def _of_rdms(rdms: Any) -> Labelled:
    patterns = _of_descriptors(rdms.pattern_descriptors)
    return Labelled(rdms.get_matrices(), ((), patterns, patterns))


def _of_dataset(dataset: Any) -> Labelled:
    rows = _of_descriptors(dataset.obs_descriptors)
    return Labelled(dataset.measurements, (rows, _of_descriptors(dataset.channel_descriptors)))


def _of_descriptors(descriptors: Any) -> tuple[Labels, ...]:
    """Return labels of rsatoolbox's descriptors; `index` counts the rows when they are new."""
    found: list[Labels] = []
    for name, values in (descriptors or {}).items():
        where = f"its descriptor {name!r}"
        found += labels_in(where, np.asarray(values).tolist(), is_main=name in ("index", "image"))
    return tuple(found)


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Labelled]], ...] = (
    (_has("get_matrices", "pattern_descriptors"), _of_rdms),
    (_has("measurements", "obs_descriptors"), _of_dataset),
    (_has("dims", "coords", "dtype", "values"), _of_data_array),
    (_has("iloc", "index", "columns"), _of_frame),
    (_has("columns", "schema"), _of_table),
)
"""Objects of other packages by their attributes, so that no such package is imported."""
