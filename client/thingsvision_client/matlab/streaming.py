"""Sends arrays to MATLAB in its own order, in pieces, while rows arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..arrays import Array
from ..formats.matlab_names import variable_names
from .exchange import PIECE_BYTES, Exchange
from .orders import Order

DTYPES = {"float16": "float32", "float32": "float32", "float64": "float64"}
"""Types of values in MATLAB by those on the wire; MATLAB itself has no half precision."""

_CLASSES = {"float32": "single", "float64": "double"}


class PieceSender:
    """Collects rows of several arrays and sends pieces of about PIECE_BYTES."""

    def __init__(
        self, exchange: Exchange, orders: Mapping[str, Order], dtypes: Mapping[str, str]
    ) -> None:
        self._exchange = exchange
        self._orders = orders
        self._dtypes = {name: DTYPES[dtype] for name, dtype in dtypes.items()}
        row_bytes = sum(
            order.unit_count * np.dtype(self._dtypes[name]).itemsize
            for name, order in orders.items()
        )
        self._most = max(1, PIECE_BYTES // max(1, row_bytes))
        self._filled = 0
        self._piece = self._new()

    def announce(self, count: int) -> None:
        """Tell MATLAB what comes: `count` rows of each array."""
        fields = variable_names(name or "model" for name in self._orders)
        columns = [
            {
                "field": field,
                "module": name,
                "class": _CLASSES[self._dtypes[name]],
                "unit_count": order.unit_count,
                "dims": list(order.dims),
                "shape": list(order.shape),
                "axes": list(order.axes),
                "images_first": order.images_first,
            }
            for field, (name, order) in zip(fields, self._orders.items(), strict=True)
        ]
        self._exchange.send_head({"count": count, "columns": columns})

    def add(self, rows: Mapping[str, Array]) -> None:
        """Add rows as the server sends them: n x shape, with the same n for all arrays."""
        count, taken = len(next(iter(rows.values()))), 0
        while taken < count:
            more = min(self._most - self._filled, count - taken)
            for name, order in self._orders.items():
                part = order.view(rows[name][taken : taken + more])
                self._piece[name][self._filled : self._filled + more] = part
            taken, self._filled = taken + more, self._filled + more
            if self._filled == self._most:
                self.finish()

    def finish(self) -> None:
        """Send what is left."""
        if self._filled:
            pieces = [array[: self._filled] for array in self._piece.values()]
            self._exchange.send_piece(pieces, self._filled)
            self._filled = 0

    def _new(self) -> dict[str, Array]:
        return {
            name: order.new(self._most, self._dtypes[name]) for name, order in self._orders.items()
        }


def send_matrices(exchange: Exchange, arrays: Mapping[str, Array], dims: Sequence[int]) -> None:
    """Send arrays whose rows are those of MATLAB's columns: images x values."""
    orders = {
        name: Order(array.shape[1:], (0,), tuple(dims), images_first=False)
        for name, array in arrays.items()
    }
    dtypes = {name: array.dtype.name for name, array in arrays.items()}
    sender = PieceSender(exchange, orders, dtypes)
    sender.announce(len(next(iter(arrays.values()))))
    sender.add(arrays)
    sender.finish()
