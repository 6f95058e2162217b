"""Reads features that a client sends as an Arrow stream, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from thingsvision_proto.wire import (
    IMAGE_COLUMN,
    ColumnSpec,
    WireError,
    batch_rows,
    column_specs,
)

from .arrow_messages import MessageCutter, MessageError

NAME_BYTES = 64 * 1024
"""Most bytes of an image's name."""

Batch = tuple[list[str], list[npt.NDArray[Any]]]
"""Names of images, and an array of rows x shape per column."""


@dataclass
class SentFeatures:
    """The features of an Arrow stream whose frames are handed in as they arrive.

    `feed` may take a while: call it in a thread. It never waits for a frame.
    """

    columns: Sequence[ColumnSpec] | None = None
    """None until the stream's first message has arrived."""
    _schema: pa.Schema | None = None
    _cutter: MessageCutter = field(default_factory=MessageCutter)

    def feed(self, frame: bytes) -> list[Batch]:
        """Return the batches of rows that a frame completes. Raises WireError.

        The arrays are views of the frame's memory: copy what you keep.
        """
        try:
            return [batch for one in self._cutter.feed(frame) if (batch := self._decode(one))]
        except MessageError as error:
            raise WireError(f"the Arrow stream can't be used: {error}") from error

    def finish(self) -> None:
        """Raise WireError if the stream is not complete."""
        try:
            self._cutter.finish()
        except MessageError as error:
            raise WireError(f"the Arrow stream is broken: {error}") from error
        if self._schema is None:
            raise WireError("the frames are not an Arrow IPC stream: they have no schema")

    def _decode(self, content: memoryview) -> Batch | None:
        """Return the rows of a record batch; None for the schema."""
        try:
            message = pa.ipc.read_message(pa.py_buffer(content))
            if self._schema is None:
                self._schema = pa.ipc.read_schema(message)
                self.columns = column_specs(self._schema)
                return None
            batch = pa.ipc.read_record_batch(message, self._schema)
            batch.validate(full=True)
        # Arrow raises any of these for messages that are broken.
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            what = "not an Arrow IPC stream" if self._schema is None else "a broken Arrow stream"
            raise WireError(f"the frames are {what}: {error}") from error
        return _names(batch), batch_rows(batch, self.columns or ())


def _names(batch: pa.RecordBatch) -> list[str]:
    """Return the names of images; raise WireError if one is too long to be kept."""
    column = batch.column(IMAGE_COLUMN)
    if column.null_count:
        raise WireError(f"column {IMAGE_COLUMN!r} must not have nulls")
    if len(column):
        count = len(column) + 1
        # The buffer may be longer, by any number of bytes.
        offsets = np.frombuffer(column.buffers()[1], np.int32, count, 4 * column.offset)
        longest = int(np.diff(offsets).max())
        if longest > NAME_BYTES:
            raise WireError(
                f"names in column {IMAGE_COLUMN!r} must have at most {NAME_BYTES:,} bytes, got "
                f"{longest:,}"
            )
    return list(column.to_pylist())
