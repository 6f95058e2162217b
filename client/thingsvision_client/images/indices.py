"""Indices of images, as users give them: whole numbers, or a mask with True or False per image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..arrays import as_array
from ..errors import InvalidRequestError

_MOST_NAMED = 5

_FEWEST_OF_A_MASK = 2
"""As many zeros and ones as there are images, and more than this, are not taken for indices."""


def indices_of(argument: str, given: Any, count: int, owner: str) -> list[int]:
    """Return indices from 0 to `count` - 1 in their order; of a mask, the places of True.

    `owner` says what has so many images, for the sentence. Raises InvalidRequestError for anything
    else, such as a mask of another length, or fractions.
    """
    values = _flat(argument, given)
    masks = [is_truth(value) for value in values]
    if any(masks):
        return _places(argument, values, count, owner, all_truths=all(masks))
    if wrong := [value for value in values if not _is_whole(value)]:
        raise InvalidRequestError(
            f"`{argument}` must be whole numbers, or a mask of True and False, got {wrong[0]!r}."
        )
    wanted = [int(value) for value in values]
    if len(wanted) == count > _FEWEST_OF_A_MASK and set(wanted) <= {0, 1}:
        raise InvalidRequestError(
            f"`{argument}` must be indices or a mask of True and False, got a 0 or 1 for each of "
            f"the {count} images of {owner}: of a mask, give np.flatnonzero(mask)."
        )
    if outside := [index for index in wanted if not 0 <= index < count]:
        raise InvalidRequestError(
            f"`{argument}` must be from 0 to {count - 1}, the images of {owner}, "
            f"got {outside[:_MOST_NAMED]}."
        )
    if not wanted:
        raise InvalidRequestError(f"`{argument}` must have at least one index, got none.")
    return wanted


def is_truth(value: Any) -> bool:
    """Tell whether a value is True or False, of Python or numpy."""
    return isinstance(value, (bool, np.bool_))


def _places(
    argument: str, values: list[Any], count: int, owner: str, *, all_truths: bool
) -> list[int]:
    if not all_truths:
        raise InvalidRequestError(
            f"`{argument}` must be indices or a mask, got both True or False and numbers."
        )
    if len(values) != count:
        raise InvalidRequestError(
            f"A mask in `{argument}` must have {count} values, a True or False for each image of "
            f"{owner}, got {len(values)}."
        )
    places = [place for place, value in enumerate(values) if value]
    if not places:
        raise InvalidRequestError(f"`{argument}` must select at least one image, got only False.")
    return places


def _flat(argument: str, given: Any) -> list[Any]:
    given = as_array(given) if hasattr(given, "__array__") else given  # tensors, Series
    shape = getattr(given, "shape", None)
    values = given if shape is None else given.tolist()
    is_flat = len(shape) == 1 if shape is not None else not isinstance(given, (Set, Mapping))
    if not is_flat or isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        got = repr(given) if shape is None else f"shape {tuple(shape)}"
        raise InvalidRequestError(
            f"`{argument}` must be a list of indices, or a mask with a value per image, got {got}."
        )
    return list(values)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Real) and (isinstance(value, Integral) or float(value).is_integer())
