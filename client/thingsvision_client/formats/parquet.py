"""Parquet: a column of tensors per module, and one of image names.

The types are those of the server's Arrow streams: `arrow.fixed_shape_tensor`, one row per image.
pandas flattens these rows, and finds their shapes in `DataFrame.attrs["shapes"]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import InvalidRequestError
from .base import NUMBERS, Column, FileFormat, Layout, Writer

_NAMES = "image"
_ATTRS_OF_PANDAS = "PANDAS_ATTRS"
"""Where pandas 2.1 and newer read `DataFrame.attrs` from."""


class _RowGroups:
    """Writes a row group per call."""

    def __init__(self, writer: Any, layout: Layout) -> None:
        self._writer = writer
        self._layout = layout
        self._done = 0

    def write(self, rows: Sequence[Array]) -> None:
        import pyarrow as pa

        columns = zip(self._layout.columns, rows, strict=True)
        arrays = [_arrow_rows(column, array) for column, array in columns]
        stop = self._done + len(rows[0])
        if self._layout.names is not None:
            arrays.insert(0, pa.array(self._layout.names[self._done : stop], pa.utf8()))
        self._writer.write_batch(pa.record_batch(arrays, schema=self._writer.schema))
        self._done = stop


@contextmanager
def _open(path: Path, layout: Layout) -> Iterator[Writer]:
    import pyarrow.parquet as pq

    # Features hardly repeat, so a dictionary of them would be a waste.
    options = {"compression": "zstd", "use_dictionary": False}
    with pq.ParquetWriter(path, _schema(layout), **options) as writer:
        yield _RowGroups(writer, layout)


def _schema(layout: Layout) -> Any:
    import pyarrow as pa

    names = [] if layout.names is None else [pa.field(_NAMES, pa.utf8(), nullable=False)]
    shapes = {column.name: list(column.shape) for column in layout.columns}
    return pa.schema(
        [*names, *(pa.field(c.name, _arrow_type(c), nullable=False) for c in layout.columns)],
        metadata={_ATTRS_OF_PANDAS: json.dumps({"shapes": shapes})},
    )


def _arrow_type(column: Column) -> Any:
    import pyarrow as pa

    values = pa.from_numpy_dtype(np.dtype(column.dtype))
    return pa.fixed_shape_tensor(values, list(column.shape)) if column.shape else values


def _arrow_rows(column: Column, array: Array) -> Any:
    import pyarrow as pa

    values = pa.array(array.reshape(-1))
    if not column.shape:
        return values
    storage = pa.FixedSizeListArray.from_arrays(values, array[0].size)
    return pa.ExtensionArray.from_storage(_arrow_type(column), storage)


def _read(path: Path) -> dict[str, Array]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        fields = [field for field in file.schema_arrow if not _has_texts(field)]
        count = file.metadata.num_rows
        arrays = {field.name: _empty(field, count) for field in fields}
        start = 0
        for number in range(file.num_row_groups):
            table = file.read_row_group(number)
            for name, array in arrays.items():
                array[start : start + len(table)] = _values(name, table.column(name), array)
            start += len(table)
    return arrays


def _texts(path: Path) -> dict[str, list[str]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [field.name for field in file.schema_arrow if _has_texts(field)]
        table = file.read(columns=names)
    return {name: table.column(name).to_pylist() for name in names}


def _has_texts(field: Any) -> bool:
    import pyarrow.types as kinds

    kind = field.type.value_type if kinds.is_dictionary(field.type) else field.type
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def _empty(field: Any, count: int) -> Array:
    shape = tuple(getattr(field.type, "shape", ()))
    values = field.type.value_type if shape else field.type
    try:
        dtype = np.dtype(values.to_pandas_dtype())
    except NotImplementedError:
        dtype = np.dtype(object)
    if dtype.name not in NUMBERS:
        raise InvalidRequestError(
            f"Column {field.name!r} must be numbers, got the type {field.type}."
        )
    return np.empty((count, *shape), dtype)


def _values(name: str, column: Any, like: Array) -> Array:
    import pyarrow as pa

    parts = [
        chunk.storage.flatten() if isinstance(chunk, pa.ExtensionArray) else chunk
        for chunk in column.chunks
    ]
    if like.dtype.kind != "f" and any(part.null_count for part in parts):  # pandas: NaN is null
        raise InvalidRequestError(
            f"Column {name!r} must not have nulls, got some among its {like.dtype}."
        )
    values = np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])
    return values.reshape(-1, *like.shape[1:])


PARQUET = FileFormat(
    "parquet",
    "parquet",
    holds_several=True,
    opener=_open,
    reader=_read,
    dtypes=NUMBERS - {"bool"},
    reserved=frozenset({_NAMES}),
    names_key=_NAMES,
    texts_reader=_texts,
)
