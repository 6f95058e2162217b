"""Arrow streams that no client of ours writes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from thingsvision_proto.v1 import thingsvision_pb2 as pb

MODEL_COLUMN = "features"


def features(rows: int, width: int, names: Iterable[Any] | None = None) -> pa.RecordBatch:
    """Return a batch of zeros."""
    values = pa.array(np.zeros(rows * width, np.float32))
    column = pa.FixedSizeListArray.from_arrays(values, width)
    images = pa.array([str(row) for row in range(rows)] if names is None else names, pa.utf8())
    return pa.record_batch([images, column], names=["image", MODEL_COLUMN])


def stream(*batches: pa.RecordBatch, **options: Any) -> bytes:
    """Return the bytes of a stream of batches."""
    file = io.BytesIO()
    written = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(file, batches[0].schema, options=written) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return file.getvalue()


def announced(content: bytes, body_bytes: int, instead_of: int) -> bytes:
    """Return a stream whose record batch announces another length of its body."""
    old = instead_of.to_bytes(8, "little", signed=True)
    assert content.count(old) == 1
    return content.replace(old, body_bytes.to_bytes(8, "little", signed=True))


def body_bytes(content: bytes) -> int:
    """Return the length of the first record batch's body."""
    reader = pa.ipc.MessageReader.open_stream(content)
    reader.read_next_message()
    return len(reader.read_next_message().body)


def sent(content: bytes, frame_bytes: int = 2**20) -> list[Any]:
    """Return the messages of a ComputeRDM request that sends a stream."""
    messages = [pb.ComputeRDMRequest(header=pb.ComputeRDMHeader(metric=pb.METRIC_CORRELATION))]
    for index, start in enumerate(range(0, len(content), frame_bytes)):
        frame = pb.ArrowFrame(index=index, arrow_ipc=content[start : start + frame_bytes])
        messages.append(pb.ComputeRDMRequest(features=frame))
    return messages
