"""Where the computation of an RDM or PCA runs, in which pieces, and its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .cores import Cores, all_cores
from .rows import Array, Rows, block_values, spans

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

FLOAT64 = "float64"
"""The arithmetic of inner products: sums of float64 products."""

RESIDUES = "int8_residues"
"""The arithmetic of `residues`, whose error has about the bound of float64's."""

LEAST_RESIDUE_VALUES = 4096
"""Values in a block of RESIDUES, if the memory allows: a product needs 13 passes over its tile."""

RESIDUE_VALUES = 32768
"""Most values in a block of RESIDUES: sums of as many products fit 32 bits."""

STRIP_BYTES = 1024 * 1024
"""Bytes of rows that are processed at once: they stay in a core's cache."""


@dataclass
class Computation:
    """Where and how to compute, and the progress; `on_block(done, total)` may raise to cancel."""

    device: str
    block_bytes: int
    on_block: Callable[[int, int], None] | None = None
    thread_pool: bool = True
    """Whether a CPU runs the pieces in one thread per core; else in the caller's and BLAS's."""
    arithmetic: str = FLOAT64
    """FLOAT64 or RESIDUES."""
    memory_bytes: int | None = None
    """Memory on the device that may be used; None: as much as the matrix needs."""
    cores: Cores | None = field(default=None, init=False)
    """The threads that run pieces on a CPU; None: the calling thread."""
    done_count: int = field(default=0, init=False)
    total_count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.memory_bytes is not None:
            self.block_bytes = max(1, min(self.block_bytes, self.memory_bytes // 32))

    @contextmanager
    def on_all_cores(self, *, has_host_matrix: bool = False) -> Iterator[None]:
        """Run the pieces on all cores of a CPU while the context lasts.

        On a GPU only pieces of a matrix in the host's memory, if there is one.
        """
        if not self.thread_pool or (self.device != "cpu" and not has_host_matrix):
            yield
            return
        with all_cores() as self.cores:
            try:
                yield
            finally:
                self.cores = None

    def report(self) -> None:
        """Report the progress to `on_block`."""
        if self.on_block is not None:
            self.on_block(self.done_count, self.total_count)

    def announce(self, rows: Rows, pass_count: int) -> None:
        """Count passes over all values among the work to be done."""
        width = self.block_values(rows, rows.row_count)
        self.total_count += pass_count * -(-rows.value_count // width)

    def block_values(self, rows: Rows, row_count: int) -> int:
        """Return how many values of `row_count` rows are read at a time."""
        width = block_values(rows, row_count, self.block_bytes)
        if self.arithmetic == RESIDUES:
            width = max(width, block_values(rows, 1, 8 * LEAST_RESIDUE_VALUES))
        limit = width
        if self.memory_bytes is not None:
            # A value has 37 bytes: as it came, in the block before too, as float64, as residues.
            limit = min(limit, max(1, self.memory_bytes // (96 * row_count)))
        if self.arithmetic == RESIDUES:
            limit = min(limit, RESIDUE_VALUES)
        return width if width == limit else limit - limit % rows.tile_values or limit

    def blocks(
        self, rows: Rows, indices: Array | None = None, *, is_announced: bool = False
    ) -> Iterator[Tensor]:
        """Yield all values as tensors N x b of the rows' own dtype, on the device.

        With ascending `indices`, only the values of those rows, n x b.
        """
        row_count = rows.row_count if indices is None else len(indices)
        width = self.block_values(rows, row_count)
        if not is_announced:
            self.total_count += -(-rows.value_count // width)
        for span in spans(rows.value_count, width):
            values = rows.values(*span) if indices is None else rows.values_of(indices, *span)
            yield self.tensor(values)
            self.done_count += 1
            self.report()

    def strips(self, row_count: int, value_count: int) -> Iterator[tuple[int, int]]:
        """Split rows of a block into [start, stop) of at most `STRIP_BYTES` and `block_bytes`."""
        most = min(STRIP_BYTES, self.block_bytes)
        return spans(row_count, max(1, most // (8 * value_count)))

    def tensor(self, values: Array) -> Tensor:
        """Return values on the device, with their own dtype; on a CPU without a copy."""
        import torch

        writable = np.require(values, requirements="W")  # torch warns otherwise
        return torch.from_numpy(writable).to(self.device)

    def each(
        self,
        function: Callable[..., T],
        pieces: Iterable[tuple[Any, ...]],
        *,
        matrix: Tensor | None = None,
    ) -> list[T]:
        """Return function(*piece) for all pieces, in order; on a CPU they may run in parallel.

        They are pieces of `matrix`, which may be in the host's memory, else of a block.
        """
        device = self.device if matrix is None else str(matrix.device)
        if self.cores is None or device != "cpu":
            results: Iterable[T] = (function(*piece) for piece in pieces)
        else:
            results = self.cores.each(function, pieces)
        kept = []
        for result in results:
            kept.append(result)
            self.report()
        return kept


def strips(row_count: int, value_count: int) -> Iterator[tuple[int, int]]:
    """Split float64 rows into [start, stop) of at most `STRIP_BYTES`, at least one row each."""
    return spans(row_count, max(1, STRIP_BYTES // (8 * value_count)))
