"""Values of RDMs: real numbers, and the same to the bit on both sides of the diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, Float64Array, as_array, fill_masked
from ..errors import InvalidRequestError


def as_real_numbers(what: str, values: Any) -> Float64Array:
    """Return values as float64, NaN where they are masked.

    Raises InvalidRequestError, which calls the values `what`, such as "RDM 'IT'".
    """
    try:
        array = as_array(fill_masked(values))
        _check_texts(what, array)
        numbers: Float64Array = array.astype(np.float64, casting="same_kind")
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{what} is not an array of real numbers: {error}.") from error
    return numbers


def _check_texts(what: str, array: Array) -> None:
    """Raise InvalidRequestError if there are texts among the values, such as a column of names."""
    if array.dtype.kind not in "OUST":
        return
    for place, value in np.ndenumerate(array):
        if isinstance(value, (str, bytes)):
            where = ", ".join(
                f"{name} {at}" for name, at in zip(("row", "column"), place[-2:], strict=False)
            )
            raise InvalidRequestError(
                f"{what} must have numbers alone, got {str(value)!r} in {where or 'it'}: put names "
                "of rows into the index, and leave out columns that have no distances."
            )


def mirror_upper_half(rdms: Float64Array) -> Float64Array:
    """Return RDMs (... x images x images) of their values above the diagonal, which is zero."""
    upper = np.triu(rdms, k=1)
    return upper + upper.swapaxes(-2, -1)
