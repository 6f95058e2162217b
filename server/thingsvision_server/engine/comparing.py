"""RDMs of features that may not fit into memory: collected, compared, cancelled; knows no wire."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path

from ..errors import ExhaustedError
from ..rdm.compare import RDM, compute_rdm
from .spool import FeatureSpool, SpoolColumn

_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """Blocks of work done, of all RDMs."""

    done_count: int
    total_count: int


@dataclass(frozen=True)
class ComparingLimits:
    """What a comparison may take: host memory for features and for RDMs, a folder for the rest."""

    features_bytes: int
    rdm_bytes: int
    spill_dir: Path | None


class _CancelledError(Exception):
    """Nobody waits for the comparison any more."""


class Comparer:
    """Computes RDMs of collected features on one device."""

    def __init__(self, device: str, limits: ComparingLimits) -> None:
        self._device = device
        self._limits = limits

    def collect(self, columns: Sequence[SpoolColumn]) -> FeatureSpool:
        """Open a place for rows of features: memory first, then a file."""
        return FeatureSpool(columns, self._limits.features_bytes, self._limits.spill_dir)

    def check_size(self, image_count: int, column_count: int) -> None:
        """Refuse RDMs that this server has no memory for; call it while rows arrive."""
        # float64 while it is computed, and at most float64 for each that is finished.
        needed = 8 * image_count**2 * (column_count + 1)
        if needed > self._limits.rdm_bytes:
            most = isqrt(self._limits.rdm_bytes // (8 * (column_count + 1)))
            raise ExhaustedError(
                f"{column_count} RDM(s) of {image_count:,} images need {needed:,} bytes; this "
                f"server has {self._limits.rdm_bytes:,} for RDMs: at most {most:,} images",
                field="image",
            )

    async def compare(
        self, spool: FeatureSpool, columns: Sequence[str], metric: str
    ) -> AsyncGenerator[Progress | list[RDM]]:
        """Yield progress every second, and at last the RDMs of the columns, in their order.

        Close the generator to stop: the work ends within a block, before this returns.
        """
        state = _Work(len(columns))
        compute = partial(state.compute_all, spool, columns, metric, self._device)
        future = asyncio.ensure_future(asyncio.to_thread(compute))
        try:
            while not (await asyncio.wait({future}, timeout=_PROGRESS_SECONDS))[0]:
                yield state.progress
            yield future.result()
        finally:
            state.cancelled.set()
            await asyncio.wait({future})


class _Work:
    """One comparison in its thread."""

    def __init__(self, column_count: int) -> None:
        self.cancelled = threading.Event()
        self.progress = Progress(0, 0)
        self._column_count = column_count
        self._column = 0

    def compute_all(
        self, spool: FeatureSpool, columns: Sequence[str], metric: str, device: str
    ) -> list[RDM]:
        rdms = []
        for self._column, column in enumerate(columns):
            rows = spool.rows(column)
            rdms.append(compute_rdm(rows, metric, device=device, on_block=self._on_block))
        return rdms

    def _on_block(self, done_count: int, total_count: int) -> None:
        if self.cancelled.is_set():
            raise _CancelledError
        before = self._column * total_count
        self.progress = Progress(before + done_count, self._column_count * total_count)
