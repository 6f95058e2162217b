"""Warns of arrays that are inputs if a model's own preprocessing can't give their values."""

from __future__ import annotations

from contextlib import closing
from math import inf
from typing import TYPE_CHECKING, Any

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.caller import warn_caller
from ..errors import (
    DeadlineError,
    InputRangeWarning,
    StoppedError,
    ThingsvisionError,
    UnavailableError,
)
from .connection import Connection

if TYPE_CHECKING:
    from ..images.queue import ImageQueue

_MARGIN = 0.01
"""Values may be outside by this part of the range: rounding, or another model's mean."""


class InputRange:
    """The range of values of the inputs of one call, and what the model's own inputs can have.

    `own` None means that this is unknown: there is no warning.
    """

    def __init__(self, own: tuple[float, float] | None) -> None:
        self._own = own
        self._lowest, self._highest = inf, -inf
        self._has_warned = False

    def add(self, values: bytes) -> None:
        """Count in the values of an input, float32."""
        import numpy as np

        if self._own is not None:
            array = np.frombuffer(values, "<f4")
            self._lowest = min(self._lowest, float(array.min()))
            self._highest = max(self._highest, float(array.max()))

    def warn(self) -> None:
        """Warn, once, if inputs so far have values outside of the model's own range."""
        if self._own is None or self._has_warned:
            return
        lowest, highest = self._own
        margin = _MARGIN * (highest - lowest)
        if self._lowest < lowest - margin or self._highest > highest + margin:
            self._has_warned = True
            warn_caller(
                f"The inputs have values from {self._lowest:.4g} to {self._highest:.4g}, but this "
                f"model's own preprocessing gives values from {lowest:.4g} to {highest:.4g}: are "
                "they preprocessed for this model? If they are pixels, send them as images "
                "(uint8, height x width x 3).",
                InputRangeWarning,
            )


def watch(connection: Connection, model: pb.ModelSpec, queue: ImageQueue) -> InputRange | None:
    """Return the range to watch while a queue is sent; None unless it consists of inputs.

    Raises ThingsvisionError if the server can't be reached.
    """
    if queue.tensor_shape is None:
        return None
    known, key = connection.input_ranges, model_id(model)
    if key not in known:
        known[key] = _own_range(connection, model, key)
    return InputRange(known[key])


def _own_range(connection: Connection, model: pb.ModelSpec, key: str) -> tuple[float, float] | None:
    """Return the range of the inputs of a model's own preprocessing; None if it has none."""
    request = pb.PreprocessRequest(header=pb.PreprocessHeader(model=model, value_range=True))
    method: Any = connection.stubs.features.Preprocess
    try:
        with closing(connection.caller.exchange(method, [request], key)) as replies:
            header = next(replies).header
    except (UnavailableError, DeadlineError, StoppedError):
        raise
    except (ThingsvisionError, StopIteration):  # the call itself says what is wrong
        return None
    return (header.lowest, header.highest) if header.HasField("lowest") else None
