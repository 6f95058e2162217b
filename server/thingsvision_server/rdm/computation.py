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
    cores: Cores | None = field(default=None, init=False)
    """The threads that run the pieces; None: the calling thread, as on a GPU."""
    done_count: int = field(default=0, init=False)
    total_count: int = field(default=0, init=False)

    @contextmanager
    def on_all_cores(self) -> Iterator[None]:
        """Run the pieces on all cores of a CPU while the context lasts."""
        if self.device != "cpu" or not self.thread_pool:
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

    def blocks(self, rows: Rows, indices: Array | None = None) -> Iterator[Tensor]:
        """Yield all values as tensors N x b of the rows' own dtype, on the device.

        With ascending `indices`, only the values of those rows, n x b.
        """
        row_count = rows.row_count if indices is None else len(indices)
        width = block_values(rows, row_count, self.block_bytes)
        self.total_count += -(-rows.value_count // width)
        for span in spans(rows.value_count, width):
            values = rows.values(*span) if indices is None else rows.values_of(indices, *span)
            yield self.tensor(values)
            self.done_count += 1
            self.report()

    def tensor(self, values: Array) -> Tensor:
        """Return values on the device, with their own dtype; on a CPU without a copy."""
        import torch

        writable = np.require(values, requirements="W")  # torch warns otherwise
        return torch.from_numpy(writable).to(self.device)

    def each(self, function: Callable[..., T], pieces: Iterable[tuple[Any, ...]]) -> list[T]:
        """Return function(*piece) for all pieces, in order; they may run in parallel."""
        if self.cores is None:
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
