"""Arrays that are a model's inputs already, as bytes to send."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, as_array
from ..errors import InvalidRequestError

_EXACT_INTEGERS = 2**24
"""float32 represents every integer up to this one."""


def tensor_bytes(value: Any) -> bytes:
    """Return the values as float32, little-endian, in C order: one copy.

    Raises InvalidRequestError if float32 can't represent the values exactly, or they are NaN or
    infinite.
    """
    array = as_array(value)
    if array.dtype.kind not in "fiub":
        raise InvalidRequestError(
            f"has values of type {array.dtype}, but a model's input must be real numbers, such as "
            "float32"
        )
    with np.errstate(all="ignore"):  # an overflow makes values unequal
        values = array.astype("<f4", copy=False)
    if not _is_exact(array, values):
        raise InvalidRequestError(
            f"has values of type {array.dtype} that float32 can't represent exactly: round them "
            "with astype('float32')"
        )
    if not np.isfinite(values).all():
        wrong = np.argwhere(~np.isfinite(values))
        place = ", ".join(map(str, wrong[0]))
        raise InvalidRequestError(
            f"has values that are NaN or infinite ({len(wrong):,}, the first at [{place}]): the "
            "input of a model must be finite"
        )
    return values.tobytes()


def _is_exact(array: Array, values: Array) -> bool:
    if array.dtype.kind in "iub":
        return bool(array.max() <= _EXACT_INTEGERS and array.min() >= -_EXACT_INTEGERS)
    return array.dtype.itemsize <= 4 or np.array_equal(array, values, equal_nan=True)
