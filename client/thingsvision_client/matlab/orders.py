"""Orders of axes: how one image's features, as a server sends them, lie in MATLAB's memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..arrays import Array
from ..calls.arguments import choose
from ..errors import InvalidRequestError
from ..values.axes import CHANNELS, FEATURES, HEIGHT, TOKENS, WIDTH

OUTPUTS = ("channels", "rows", "native")
"""The choices of `OutputAs`."""

_MAP = (HEIGHT, WIDTH, CHANNELS)
_SEQUENCE = (TOKENS, FEATURES)


class UnknownAxesError(InvalidRequestError):
    """The server does not know what the axes of a module's features are."""


@dataclass(frozen=True)
class Order:
    """The order of one module's features.

    `shape` is the shape of one image's features as sent. `axes` are its axes from the one whose
    neighbours are adjacent in MATLAB's memory to the slowest. `dims` are MATLAB's dimensions of one
    image, which come behind the images if `images_first`, else before them.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    dims: tuple[int, ...]
    images_first: bool

    def new(self, count: int, dtype: Any) -> Array:
        """Return an empty array of images x axes from slowest to fastest, for `view`."""
        return np.empty((count, *(self.shape[axis] for axis in reversed(self.axes))), dtype)

    def view(self, rows: Array) -> Array:
        """Return rows as sent (images x shape) with the axes of `new`, as a view."""
        return rows.transpose(0, *(axis + 1 for axis in reversed(self.axes)))

    def unit_index(self) -> Array:
        """Return the place, from 1, of each value in the server's order (flat, C order)."""
        places = np.arange(1, prod(self.shape) + 1).reshape(1, *self.shape)
        return self.view(places).ravel()

    @property
    def unit_count(self) -> int:
        """Number of values of an image."""
        return prod(self.shape)


def find_order(
    output_as: str, module: str, shape: tuple[int, ...], axes: tuple[str, ...], *, flatten: bool
) -> Order:
    """Return the order of a module's features. Raises InvalidRequestError.

    UnknownAxesError if `channels` needs axes that the server does not know.
    """
    choose("OutputAs", output_as, OUTPUTS)
    if axes == ("",):  # of an older server
        axes = (FEATURES,)
    c_order = tuple(reversed(range(len(shape))))
    known = _known(axes)
    if output_as == "native":
        if flatten:
            return Order(shape, c_order, (prod(shape),), images_first=True)
        return Order(shape, c_order[::-1], shape, images_first=True)
    if output_as == "rows":
        return Order(shape, known or c_order, (prod(shape),), images_first=True)
    if flatten:
        return Order(shape, known or c_order, (1, 1, prod(shape)), images_first=False)
    if known is None:
        raise UnknownAxesError(
            f"The server does not know what the axes of module {module!r} are, whose features are "
            f"{' x '.join(map(str, shape))}: choose 'OutputAs', 'native' (as the server sends "
            "them, images first) or 'rows' (images x features).",
            subject=module,
        )
    return Order(shape, known, _dims(shape, axes), images_first=False)


def _known(axes: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the axes in MATLAB's order; None if one is unknown."""
    for order in (_MAP, _SEQUENCE):
        if set(axes) <= set(order):
            return tuple(axes.index(name) for name in order if name in axes)
    return None


def _dims(shape: tuple[int, ...], axes: tuple[str, ...]) -> tuple[int, ...]:
    """Return H x W x C of a map, T x D of tokens, 1 x 1 x D of a vector; 1 for axes removed."""
    sizes = dict(zip(axes, shape, strict=True))
    if TOKENS in sizes:
        return tuple(sizes.get(name, 1) for name in _SEQUENCE)
    return sizes.get(HEIGHT, 1), sizes.get(WIDTH, 1), sizes.get(CHANNELS, sizes.get(FEATURES, 1))
