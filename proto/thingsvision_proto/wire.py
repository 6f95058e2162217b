"""Encodes arrays of features as frames of one Arrow IPC stream, and decodes them.

A stream has a column `image` (utf8) and a column per module: `arrow.fixed_shape_tensor`,
one row per image, no nulls, uncompressed. Frames may split its bytes anywhere.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from zlib_ng.zlib_ng import crc32

FRAME_BYTES = 1024 * 1024
"""Maximum bytes of a frame: larger messages are slower."""

MIN_FRAME_BYTES = FRAME_BYTES // 4
"""Minimum bytes of a frame; only the last frame may be shorter."""

RECORD_BATCH_BYTES = FRAME_BYTES - 64 * 1024
"""A record batch has as many rows as fit, at least one: it and its header fit in one frame."""

IMAGE_COLUMN = "image"

_ELEMENT_TYPES = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}
_DTYPES = {kind: dtype for dtype, kind in _ELEMENT_TYPES.items()}

Array = npt.NDArray[Any]


class WireError(ValueError):
    """The bytes are not an Arrow stream of features; the message says why."""


@dataclass(frozen=True)
class ColumnSpec:
    """A column of features: its name, the shape of one row, and its numpy type, e.g. `float32`."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def row_bytes(self) -> int:
        """Length of one row, bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def arrow_field(self) -> pa.Field:
        """Return the field of the Arrow schema."""
        tensor = pa.fixed_shape_tensor(_ELEMENT_TYPES[self.dtype], list(self.shape))
        return pa.field(self.name, tensor, nullable=False)


@dataclass
class _FrameCutter(io.RawIOBase):
    """A file that keeps references to the buffers Arrow writes and returns them as frames."""

    pending: list[memoryview] = field(default_factory=list)
    pending_bytes: int = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # Arrow passes bytes, or a pyarrow.Buffer without a copy
        view = memoryview(data).cast("B")
        self.pending.append(view)
        self.pending_bytes += len(view)
        return len(view)

    def cut(self, byte_count: int) -> list[memoryview]:
        """Remove and return the first `byte_count` bytes (or all, if fewer), in pieces."""
        pieces, missing = [], min(byte_count, self.pending_bytes)
        self.pending_bytes -= missing
        self.pending.reverse()
        while missing:
            view = self.pending.pop()
            if len(view) > missing:
                self.pending.append(view[missing:])
                view = view[:missing]
            pieces.append(view)
            missing -= len(view)
        self.pending.reverse()
        return pieces


class FeatureWriter:
    """Turns rows of features into the frames of one Arrow IPC stream, in constant memory.

    A frame is a list of pieces, which the sender joins. It ends at the end of a record batch,
    unless the batch is larger, so that a reader finds a batch's values contiguous in memory.
    """

    def __init__(self, columns: Sequence[ColumnSpec], frame_bytes: int = FRAME_BYTES) -> None:
        self.columns = tuple(columns)
        self.frame_count = self.byte_count = self.row_count = self.crc32 = 0
        self._frame_bytes = frame_bytes
        self._least_bytes = min(frame_bytes, MIN_FRAME_BYTES)
        fields = [pa.field(IMAGE_COLUMN, pa.utf8(), nullable=False)]
        self._schema = pa.schema([*fields, *(column.arrow_field() for column in columns)])
        self._cutter = _FrameCutter()
        self._writer = pa.ipc.new_stream(self._cutter, self._schema)
        row_bytes = max(1, sum(column.row_bytes for column in columns))
        self._batch_rows = max(1, RECORD_BATCH_BYTES // row_bytes)

    def write(self, images: Sequence[str], arrays: Sequence[Array]) -> Iterator[list[memoryview]]:
        """Yield the frames that these rows complete; remaining bytes wait for the next call.

        `arrays` has one array per column, len(images) x shape, C order, of the column's dtype.
        Frames are views of them: change an array only after the generator has ended and `finish`
        or `write` has run.
        """
        for start in range(0, len(images), self._batch_rows):
            stop = start + self._batch_rows
            rows = [array[start:stop] for array in arrays]
            self._writer.write_batch(self._record_batch(images[start:stop], rows))
            if self._cutter.pending_bytes >= self._least_bytes:
                yield from self._frames()
        self.row_count += len(images)

    def finish(self) -> Iterator[list[memoryview]]:
        """Close the Arrow stream and yield its last frames."""
        self._writer.close()
        yield from self._frames()

    def _frames(self) -> Iterator[list[memoryview]]:
        """Split pending bytes into frames of about the same length, a multiple of 8."""
        pending = self._cutter.pending_bytes
        count = -(-pending // self._frame_bytes)
        length = -(-pending // max(1, 8 * count)) * 8
        for _ in range(count):
            frame = self._cutter.cut(length)
            for piece in frame:
                self.crc32 = crc32(piece, self.crc32)
            self.frame_count += 1
            self.byte_count += sum(map(len, frame))
            yield frame

    def _record_batch(self, images: Sequence[str], rows: Sequence[Array]) -> pa.RecordBatch:
        names = pa.array(images, pa.utf8())
        kinds = self._schema.types[1:]
        columns = [_column(kind, array) for kind, array in zip(kinds, rows, strict=True)]
        return pa.RecordBatch.from_arrays([names, *columns], schema=self._schema)


def _column(kind: pa.FixedShapeTensorType, array: Array) -> pa.ExtensionArray:
    """Return rows x shape as a column that is a view of them."""
    # From buffers: Arrow's other ways run much code that has left the processor's cache by then.
    memory = pa.py_buffer(np.ascontiguousarray(array))
    values = pa.Array.from_buffers(kind.value_type, array.size, [None, memory], 0)
    lists = pa.Array.from_buffers(kind.storage_type, len(array), [None], 0, children=[values])
    return pa.ExtensionArray.from_storage(kind, lists)


class _FrameFile(io.RawIOBase):
    """A readable file over frames that arrive one by one; holds one frame at a time.

    A read within one frame returns a view of it.
    """

    def __init__(self, frames: Iterable[bytes | memoryview]) -> None:
        self._frames = iter(frames)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> Any:  # Arrow reads through this
        wanted = sys.maxsize if size is None or size < 0 else size
        if wanted <= len(self._rest):
            piece, self._rest = self._rest[:wanted], self._rest[wanted:]
            return piece
        parts: list[memoryview] = []
        while wanted and (self._rest or self._next_frame()):
            part = self._rest[:wanted]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def _next_frame(self) -> bool:
        frame = next(self._frames, None)
        self._rest = memoryview(frame or b"")
        return frame is not None


class FeatureReader:
    """Reads the rows of an Arrow IPC stream of features while its frames arrive.

    Raises WireError if the stream is not as the module's docstring says.
    """

    def __init__(self, frames: Iterable[bytes | memoryview]) -> None:
        try:
            self._reader = pa.ipc.open_stream(pa.PythonFile(_FrameFile(frames), mode="r"))
        except (pa.ArrowInvalid, OSError) as error:
            raise WireError(f"the frames are not an Arrow IPC stream: {error}") from error
        self.columns = column_specs(self._reader.schema)

    def __iter__(self) -> Iterator[tuple[list[str], list[Array]]]:
        """Yield (image names, one array of rows x shape per column) for each record batch.

        The arrays are views of the batch's memory: copy what you keep.
        """
        while True:
            try:
                batch = self._reader.read_next_batch()
                batch.validate(full=True)
            except StopIteration:
                return
            except (pa.ArrowInvalid, OSError) as error:
                raise WireError(f"the Arrow stream is broken: {error}") from error
            yield _image_names(batch), batch_rows(batch, self.columns)


def column_specs(schema: pa.Schema) -> tuple[ColumnSpec, ...]:
    """Return the columns of features of a schema; raise WireError if it is of something else."""
    try:
        return _column_specs(schema)
    except UnicodeDecodeError as error:
        raise WireError(f"names of columns must be UTF-8: {error}") from error


def batch_rows(batch: pa.RecordBatch, columns: Sequence[ColumnSpec]) -> list[Array]:
    """Return an array of rows x shape per column, as views of the batch's memory."""
    return [_rows(batch, column) for column in columns]


def _column_specs(schema: pa.Schema) -> tuple[ColumnSpec, ...]:
    if pa.utf8() not in [entry.type for entry in schema if entry.name == IMAGE_COLUMN]:
        found = ", ".join(f"{entry.name!r} of type {entry.type}" for entry in schema) or "none"
        raise WireError(f"the frames must have a column {IMAGE_COLUMN!r} of type utf8, got {found}")
    if len(set(schema.names)) < len(schema.names):
        raise WireError(f"columns of the frames must have different names, got {schema.names}")
    return tuple(_column_spec(entry) for entry in schema if entry.name != IMAGE_COLUMN)


def _column_spec(entry: pa.Field) -> ColumnSpec:
    kind = entry.type
    shape = list(kind.shape) if isinstance(kind, pa.FixedShapeTensorType) else None
    storage = kind if shape is None else kind.storage_type
    if shape is not None and list(kind.permutation or range(len(shape))) != list(range(len(shape))):
        raise WireError(f"column {entry.name!r} is permuted; its tensors must be in C order")
    if pa.types.is_fixed_size_list(storage) and storage.value_type in _DTYPES:
        dtype = _DTYPES[storage.value_type]
        return ColumnSpec(entry.name, tuple([storage.list_size] if shape is None else shape), dtype)
    raise WireError(
        f"column {entry.name!r} must be FixedSizeList or fixed_shape_tensor over "
        f"{' or '.join(_ELEMENT_TYPES)}, got {kind}"
    )


def _image_names(batch: pa.RecordBatch) -> list[str]:
    names = batch.column(IMAGE_COLUMN)
    if names.null_count:
        raise WireError(f"column {IMAGE_COLUMN!r} must not have nulls")
    return list(names.to_pylist())


def _rows(batch: pa.RecordBatch, column: ColumnSpec) -> Array:
    entry = batch.column(column.name)
    storage = entry.storage if isinstance(entry, pa.ExtensionArray) else entry
    size = storage.type.list_size
    values = storage.values[storage.offset * size : (storage.offset + len(storage)) * size]
    if storage.null_count or values.null_count:
        raise WireError(f"column {column.name!r} must not have nulls")
    rows: Array = values.to_numpy(zero_copy_only=True).reshape(batch.num_rows, *column.shape)
    # Frames split anywhere may leave values unaligned, which is slow to read.
    return rows if rows.flags.aligned else rows.copy()
