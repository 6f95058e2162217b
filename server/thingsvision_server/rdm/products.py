"""Adds products of float64 blocks to a Gram matrix, by numpy on a CPU and by torch elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .computation import FLOAT64, RESIDUES, Computation
from .residues import ResidueProducts, find_kernel
from .rows import spans

if TYPE_CHECKING:
    from torch import Tensor

TILE_ROWS = 512
"""Maximum rows and columns of a tile of the product on a CPU: 2 MiB, to fit a core's cache."""


class Products(Protocol):
    """Inner products of all pairs of rows of a block."""

    def load(self, block: Tensor) -> None:
        """Take the next block of values, N x b float64."""

    def tiles(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Split rows [start, stop) of a lower triangle into tiles: rows and columns."""

    def add(self, tile: Tensor, is_first: bool, rows: slice, columns: slice) -> None:
        """Add the products of the block's rows and columns to a tile; `is_first`: replace it."""


def find_arithmetic(asked: str, device: str) -> str:
    """Return the arithmetic that a device can do, float64 if not the one that was asked for."""
    return RESIDUES if asked == RESIDUES and find_kernel(device) is not None else FLOAT64


def make_products(computation: Computation) -> Products:
    """Return what multiplies on the computation's device with its arithmetic."""
    kernel = find_kernel(computation.device) if computation.arithmetic == RESIDUES else None
    if kernel is not None:
        return ResidueProducts(computation, kernel)
    return (
        _NumpyProducts(computation) if computation.device == "cpu" else _TorchProducts(computation)
    )


class _NumpyProducts:
    """numpy's products in square tiles: if both factors are the same, it calls syrk."""

    def __init__(self, computation: Computation) -> None:
        self._length = max(1, min(TILE_ROWS, isqrt(computation.block_bytes // 8)))

    def load(self, block: Tensor) -> None:
        self._values = block.numpy()

    def tiles(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        for first, last in spans(stop - start, self._length):
            rows = slice(start + first, start + last)
            for left, right in spans(rows.stop, self._length):
                yield rows, slice(left, right)

    def add(self, tile: Tensor, is_first: bool, rows: slice, columns: slice) -> None:
        import torch

        values = self._values
        with np.errstate(all="ignore"):  # squares may overflow float64: such rows become undefined
            if is_first:
                np.matmul(values[rows], values[columns].T, out=tile.numpy())
            else:
                tile.add_(torch.from_numpy(values[rows] @ values[columns].T))


class _TorchProducts:
    """torch's products in bands of whole rows."""

    def __init__(self, computation: Computation) -> None:
        self._bytes = computation.block_bytes

    def load(self, block: Tensor) -> None:
        self._block = block

    def tiles(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        for first, last in spans(stop - start, max(1, self._bytes // (8 * stop))):
            yield slice(start + first, start + last), slice(0, start + last)

    def add(self, tile: Tensor, is_first: bool, rows: slice, columns: slice) -> None:
        tile.addmm_(self._block[rows], self._block[columns].T, beta=0 if is_first else 1)
