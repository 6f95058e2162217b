"""One RDM's work: where it runs, in which pieces, and how far it is; knows no metric."""

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
"""Bytes of some rows that are worked on at once: they stay in a core's cache."""


@dataclass
class Computation:
    """Where and how to compute, and how far it is: `on_block(done, total)` may raise to cancel."""

    device: str
    block_bytes: int
    on_block: Callable[[int, int], None] | None = None
    thread_pool: bool = True
    """Whether a CPU's cores take the pieces; without, the calling thread and BLAS's do."""
    cores: Cores | None = field(default=None, init=False)
    """What takes the pieces; without it the calling thread does, as suits a GPU."""
    done_count: int = field(default=0, init=False)
    total_count: int = field(default=0, init=False)

    @contextmanager
    def on_all_cores(self) -> Iterator[None]:
        """Have all cores of a CPU take the pieces meanwhile."""
        if self.device != "cpu" or not self.thread_pool:
            yield
            return
        with all_cores() as self.cores:
            try:
                yield
            finally:
                self.cores = None

    def report(self) -> None:
        """Say how far the work is."""
        if self.on_block is not None:
            self.on_block(self.done_count, self.total_count)

    def blocks(self, rows: Rows, indices: Array | None = None) -> Iterator[Tensor]:
        """Yield all values as tensors N x b of the rows' own type, on the device.

        With ascending `indices` only of those rows, n x b.
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
        """Return values on the device, of their own type; on a CPU they share memory."""
        import torch

        writable = np.require(values, requirements="W")  # torch warns else
        return torch.from_numpy(writable).to(self.device)

    def each(self, function: Callable[..., T], pieces: Iterable[tuple[Any, ...]]) -> list[T]:
        """Return function(*piece) of all pieces, in order; they may run side by side."""
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
    """Cut rows of float64 into [start, stop), as many as fit `STRIP_BYTES`, at least one."""
    return spans(row_count, max(1, STRIP_BYTES // (8 * value_count)))
