"""Plans how much of a Gram matrix, and of the values, is in a device's memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from math import isqrt

from ..errors import ExhaustedError
from .computation import RESIDUES, STRIP_BYTES, Computation
from .residues import MODULI
from .rows import Rows

_ALIGNED_ROWS = 512

_MOST_BANDS = 100
"""Each reads all values again."""

_STATISTICS = 16
"""float64 statistics of a row, with what is computed from them."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bands of rows [start, stop) of the matrix's lower triangle, computed one after another.

    `keeps_matrix`: the device holds the whole matrix (one band); else it holds a band at a time,
    and the host the matrix. `peak_bytes`: the most that the products take on the device.
    """

    bands: tuple[tuple[int, int], ...]
    keeps_matrix: bool
    peak_bytes: int


def plan_memory(rows: Rows, computation: Computation) -> MemoryPlan:
    """Return the plan of N x P rows within the computation's `memory_bytes` (None: no limit).

    Raises ExhaustedError if the memory is too small, or so small that reading all values again and
    again would take most of the time.
    """
    plan = _plan(rows, computation)
    if not _is_possible(plan, computation):
        least = _least_bytes(rows, computation)
        raise ExhaustedError(
            f"products of {rows.row_count:,} rows must have about {least:,} bytes of the memory of "
            f"{computation.device}, and {computation.memory_bytes:,} may be used: try again when "
            "others use less of it, unload a model, or send fewer rows"
        )
    return plan


def _plan(rows: Rows, computation: Computation) -> MemoryPlan:
    row_count = rows.row_count
    working = _working_bytes(rows, computation)
    whole = working + 8 * row_count**2
    if computation.memory_bytes is None or whole <= computation.memory_bytes:
        return MemoryPlan(((0, row_count),), True, whole)
    every = _bands(row_count, max(0, computation.memory_bytes - working))
    bands = tuple(islice(every, _MOST_BANDS + 1))  # of millions nobody waits for the last one
    largest = max(8 * (stop - start) * stop for start, stop in bands)
    return MemoryPlan(bands, False, working + largest)


def _is_possible(plan: MemoryPlan, computation: Computation) -> bool:
    limit = computation.memory_bytes
    return limit is None or (plan.peak_bytes <= limit and len(plan.bands) <= _MOST_BANDS)


def _least_bytes(rows: Rows, computation: Computation) -> int:
    """Return the memory that is enough for a plan, to two digits."""

    def is_enough(memory_bytes: int) -> bool:
        larger = replace(computation, block_bytes=memory_bytes, memory_bytes=memory_bytes)
        return _is_possible(_plan(rows, larger), larger)

    power = 10**3
    while not is_enough(10 * 10 * power):
        power *= 10
    return next(n * power for n in range(10, 101) if is_enough(n * power))


def _working_bytes(rows: Rows, computation: Computation) -> int:
    """Return the bytes beside the matrix: of blocks of values, a tile, and statistics."""
    has_residues = computation.arithmetic == RESIDUES
    # As they came (those of the block before too), as float64, and as residues.
    value_bytes = 8 + 8 + 8 + (len(MODULI) if has_residues else 0)
    width = computation.block_values(rows, rows.row_count)
    block = (rows.row_count + 32) * (width + 8) * value_bytes
    # A tile, and before it rows of a block while they are converted.
    pieces = computation.block_bytes + 5 * min(STRIP_BYTES, computation.block_bytes)
    return block + pieces + 8 * _STATISTICS * rows.row_count


def _bands(row_count: int, band_bytes: int) -> Iterator[tuple[int, int]]:
    """Split a lower triangle into bands of whole rows, of at most `band_bytes` as float64."""
    start = 0
    while start < row_count:
        # (stop - start) stop <= band_bytes / 8
        stop = (start + isqrt(start**2 + band_bytes // 2)) // 2
        if stop - start > _ALIGNED_ROWS:
            stop -= (stop - start) % _ALIGNED_ROWS
        stop = min(row_count, max(start + 1, stop))
        yield start, stop
        start = stop
