"""Converts inputs of models to messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ...inputs import InputTransform
from .models import preprocessing_message

_PART_BYTES = 2**20


def preprocess_reply_header(
    transform: InputTransform, value_range: tuple[float, float] | None
) -> pb.PreprocessResponse:
    """Return the header that precedes the inputs of a transform, with their range if known."""
    header = pb.PreprocessReplyHeader(
        preprocessing=preprocessing_message(transform.preprocessing), shape=transform.spec.shape
    )
    if value_range is not None:
        header.lowest, header.highest = value_range
    return pb.PreprocessResponse(header=header)


def input_parts(index: int, values: Any) -> Iterator[pb.PreprocessResponse]:
    """Yield the messages of one input, an array of float32 in C order."""
    content = memoryview(values.astype("<f4", copy=False)).cast("B")
    for start in range(0, len(content), _PART_BYTES):
        part = bytes(content[start : start + _PART_BYTES])
        yield pb.PreprocessResponse(input=pb.InputPart(index=index, values=part))
