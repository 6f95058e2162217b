"""Names that the rows and columns of an object carry: tables, xarray, rsatoolbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from ..calls.wording import quote
from ..errors import InvalidRequestError
from .names import are_counted

_UNNAMED_COLUMNS = ("", "Unnamed: 0", "__index_level_0__")
"""What pandas and pyarrow call the column of an index that was not taken as the index."""


@dataclass(frozen=True)
class Labels:
    """A name for each row (or column) of an object, and the place where they stand.

    `where` is for sentences, such as "its index". `is_main` says that the object identifies its
    rows by them; others may be anything, such as categories. `are_texts` says that they are not
    numbers, `is_default` that they are numbers of rows as pandas gives them, and `is_remembered`
    that the client knows them, while the object does not carry them.
    """

    where: str
    names: tuple[str, ...]
    is_main: bool = True
    are_texts: bool = True
    is_default: bool = False
    is_remembered: bool = False

    @property
    def are_counted(self) -> bool:
        """Whether they only count the rows: positions."""
        return are_counted(self.names)

    @property
    def are_positions(self) -> bool:
        """Whether they count the rows, in any order, as sorting leaves an index of numbers."""
        return not self.are_texts and set(self.names) == set(map(str, range(len(self.names))))

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


def read_labelled(value: Any) -> Labelled | None:
    """Return the values and labels of an object that has any; None for arrays and the like."""
    if isinstance(value, Labelled):
        return value
    for is_such, read in _KINDS:
        if is_such(value):
            return read(value)
    return None


def row_names(value: Any) -> tuple[str, ...] | None:
    """Return the names that identify the rows of an object; None if it has none, or counts them."""
    found = read_labelled(value)
    if found is None:
        return None
    main = [one for one in found.rows if one.is_main and not one.are_counted]
    main.sort(key=lambda one: not one.are_texts)
    return main[0].names if main else None


def has_only_positions(value: Any) -> bool:
    """Tell whether an object has only numbers of rows as names, in any order, such as an index."""
    found = read_labelled(value)
    main = [] if found is None else [one for one in found.rows if one.is_main]
    return bool(main) and all(one.is_default or one.are_positions for one in main)


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
    found = _read_named_table(list(names), columns)
    if found is not None:
        index = [one for one in _of_index("its index", frame.index) if not one.are_counted]
        return Labelled(found.values, ((*found.rows, *index), found.axes[1]))
    axes = (_of_index("its index", frame.index), _of_index("its columns", names))
    return Labelled(_numbers(frame), axes)


def _of_index(where: str, index: Any) -> tuple[Labels, ...]:
    levels: list[Labels] = []
    if getattr(index, "nlevels", 1) > 1:
        for number in range(index.nlevels):
            level = f"level {number} of {where}"
            levels += labels_in(level, index.get_level_values(number), is_main=False)
    dtype = getattr(index, "dtype", None)
    is_default = dtype is not None and dtype.kind in "iu" and index.name is None
    found = labels_in(where, index)
    return (*(replace(one, is_default=is_default) for one in found), *levels)


def _of_table(table: Any) -> Labelled:
    """Return the labels of a table without an index, as polars and pyarrow have it."""
    is_arrow = hasattr(table, "column_names")
    names = list(table.column_names if is_arrow else table.columns)
    columns = list(table.columns) if is_arrow else [table[name] for name in names]
    found = _read_named_table(names, columns)
    if found is not None:
        return found
    values = np.stack([np.asarray(column) for column in columns], axis=1)
    return Labelled(values, ((), _of_columns(names)))


def _read_named_table(names: Sequence[Any], columns: Sequence[Any]) -> Labelled | None:
    """Return a square table with columns of text beside it, which name or describe the rows.

    None if the table has no such columns. Raises InvalidRequestError if it is almost one.
    """
    count = len(columns[0]) if columns else 0
    texts = [
        place
        for place, column in enumerate(columns)
        if names[place] in _UNNAMED_COLUMNS or _are_texts(column)
    ]
    if not texts or len(columns) <= count:
        return None
    rest = [place for place in range(len(columns)) if place not in texts]
    if len(rest) != count:
        known = set(texts_of(names))
        if not any(known.issuperset(texts_of(np.asarray(columns[place]))) for place in texts):
            return None  # a table of something else; whoever uses it says what is wrong
        raise InvalidRequestError(
            f"A table of an RDM must have a column of numbers per row ({count}), got {len(rest)} "
            f"beside its columns of text, {quote([str(names[place]) for place in texts])}: drop "
            "the columns that have no distances."
        )
    values = np.stack([np.asarray(columns[other]) for other in rest], axis=1)
    # Columns that are only counted, the names' own included, are not named.
    is_counted = are_counted(texts_of(names))
    titles = () if is_counted else _of_columns([names[other] for other in rest])
    labels: list[Labels] = []
    for place in texts:
        found = np.asarray(columns[place]).tolist()
        is_main = len(texts) == 1 or len(set(texts_of(found))) == count
        labels += labels_in(f"its column {names[place]!r}", found, is_main=is_main)
    return Labelled(values, (tuple(labels), titles))


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
    found: dict[str, list[Labels]] = {axis: [] for axis in array.dims}
    mixed: list[tuple[str, tuple[str, ...]]] = []
    for name, coordinate in array.coords.items():
        axes = [axis for axis in coordinate.dims if _varies_along(axis, coordinate)]
        if len(axes) > 1 and coordinate.dtype.kind in "OUST":
            mixed.append((name, tuple(axes)))
        for axis in coordinate.dims if len(coordinate.dims) == 1 else axes:
            if len(axes) <= 1:
                values = coordinate.transpose(axis, ...).values
                first = values.reshape(len(values), -1)[:, 0].tolist()
                found[axis] += labels_in(f"its coordinate {name!r}", first, is_main=name == axis)
    for name, differing in mixed:
        _check_named_otherwise(name, differing, found)
    return Labelled(np.asarray(array.values), tuple(tuple(found[axis]) for axis in array.dims))


def _varies_along(axis: str, coordinate: Any) -> bool:
    """Tell whether a coordinate has different values along an axis."""
    values = coordinate.transpose(axis, ...).values
    return bool((values != values[:1]).any())


def _check_named_otherwise(name: str, axes: Sequence[str], found: dict[str, list[Labels]]) -> None:
    """Raise InvalidRequestError if axes have only a coordinate that differs along all of them."""
    if any(one.are_texts for axis in axes for one in found[axis]):
        return
    raise InvalidRequestError(
        f"Coordinate {name!r} must have a name per row, got other names along each of its axes, "
        f"{quote(list(axes))}: give each axis of images a coordinate of its own with their names "
        f"(assign_coords), or leave this coordinate out (drop_vars({name!r}))."
    )


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


def _of_record(record: Any) -> Labelled:
    """Return the RDM of what `Client.rdm` returned; raise InvalidRequestError for several."""
    if len(record.rdms) != 1:
        raise InvalidRequestError(
            f"An RDM must be images x images, got RDMs of {len(record.rdms)} modules: pass one, "
            f"such as rdms.rdms[{next(iter(record.rdms), 'module')!r}]; there are "
            f"{quote(list(record.rdms))}."
        )
    labels = (Labels("its images", tuple(record.images)),)
    return Labelled(next(iter(record.rdms.values())), (labels, labels))


def _is_record(value: Any) -> bool:
    return isinstance(getattr(value, "rdms", None), Mapping) and hasattr(value, "images")


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Labelled]], ...] = (
    (_is_record, _of_record),
    (_has("get_matrices", "pattern_descriptors"), _of_rdms),
    (_has("measurements", "obs_descriptors"), _of_dataset),
    (_has("dims", "coords", "dtype", "values"), _of_data_array),
    (_has("iloc", "index", "columns"), _of_frame),
    (_has("columns", "schema"), _of_table),
)
"""Objects of other packages by their attributes, so that no such package is imported."""
