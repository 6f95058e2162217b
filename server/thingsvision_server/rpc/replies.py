"""Turns rows into numbered frames, ready to send, and counts them for the trailer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy.typing as npt
from structlog.contextvars import bind_contextvars, get_contextvars

from thingsvision_proto.frames import FrameWriter
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import ColumnSpec, FeatureWriter

from ..engine.extractor import Extraction
from ..engine.passes.stream import Hole
from ..monitoring.metrics import Metrics
from .messages.extraction import column_message, provenance, token_number


class FrameReply:
    """The frames of one reply stream."""

    def __init__(
        self, columns: Sequence[ColumnSpec], metrics: Metrics, write_frame: FrameWriter
    ) -> None:
        self.send_seconds = 0.0
        self._writer = FeatureWriter(columns)
        self._metrics = metrics
        self._write_frame = write_frame
        self._index = 0

    def rows(self, images: Sequence[str], arrays: Sequence[npt.NDArray[Any]]) -> Iterator[bytes]:
        """Yield the responses that these rows complete."""
        return self._responses(self._writer.write(images, arrays))

    def end(self) -> Iterator[bytes]:
        """Yield the last responses before the trailer."""
        return self._responses(self._writer.finish())

    def _responses(self, frames: Iterable[Sequence[memoryview]]) -> Iterator[bytes]:
        started = time.monotonic()
        for frame in frames:
            message = self._write_frame(self._index, frame)
            encoded_at = time.monotonic()
            yield message
            self._index += 1
            self._metrics.encode_seconds.observe(encoded_at - started)
            self._metrics.send_blocked_seconds.observe(time.monotonic() - encoded_at)
            self.send_seconds += time.monotonic() - started
            started = time.monotonic()

    def totals(self) -> dict[str, Any]:
        """Return the fields that the trailers of Extract and ComputeRDM share."""
        return {
            "image_count": self._writer.row_count,
            "frame_count": self._writer.frame_count,
            "arrow_bytes": self._writer.byte_count,
            "arrow_crc32": self._writer.crc32,
        }


def feature_columns(extraction: Extraction) -> list[ColumnSpec]:
    """Return the columns of an extraction's features, in the order asked for."""
    planned = extraction.plan
    return [
        ColumnSpec(tap.name, shape, planned.forward.dtype)
        for tap, shape in zip(planned.forward.taps, planned.row_shapes, strict=True)
    ]


def extract_reply_header(
    extraction: Extraction, columns: Sequence[ColumnSpec], server: pb.Server
) -> pb.ExtractReplyHeader:
    """Return the header that precedes the first frame of features of a server."""
    return pb.ExtractReplyHeader(
        provenance=provenance(extraction),
        columns=map(column_message, columns, extraction.plan.forward.row_axes),
        batch_size=extraction.batch_size,
        batch_limit=extraction.batch_limit,
        token_extraction=token_number(extraction),
        server=server,
    )


def log_extraction(extraction: Extraction, send_seconds: float) -> None:
    """Add the counts and times of an extraction to the request's log line."""
    preparation = extraction.preparation
    bind_contextvars(
        model=str(extraction.loaded.key),
        images=preparation.image_count,
        image_bytes=preparation.byte_count,
        decode_seconds=round(preparation.decode_seconds, 4),
        wait_seconds=round(extraction.wait_seconds, 4),
        forward_seconds=round(extraction.forward_seconds, 4),
        send_seconds=round(send_seconds, 4),
    )
    if extraction.skipped_count:
        bind_contextvars(skipped=extraction.skipped_count)


def log_skipped(images: Sequence[Hole]) -> None:
    """Add the first image that can't be used to the request's log line."""
    if images and "first_skipped" not in get_contextvars():
        bind_contextvars(first_skipped=f"image {images[0].index} {images[0].reason}")
