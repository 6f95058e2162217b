"""Computes RDMs of collected features, which may be larger than memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path

from ..errors import ExhaustedError
from ..rdm.compare import RDM, compute_rdm
from .progress import Progress, ProgressTracker, run_with_progress
from .rows.spool import FeatureSpool, SpoolColumn


@dataclass(frozen=True)
class AnalysisLimits:
    """Host memory for features and for RDMs and PCAs, and a folder for spilled features."""

    features_bytes: int
    rdm_bytes: int
    spill_dir: Path | None
    thread_pool: bool = True
    """Whether a CPU computes with one thread for each core, or with the threads of BLAS."""

    def spool(self, columns: Sequence[SpoolColumn]) -> FeatureSpool:
        """Open a spool for rows of features: in memory first, then in a file."""
        return FeatureSpool(columns, self.features_bytes, self.spill_dir)


class Comparer:
    """Computes RDMs of collected features on one device."""

    def __init__(self, device: str, limits: AnalysisLimits) -> None:
        self._device = device
        self._limits = limits

    def open_spool(self, columns: Sequence[SpoolColumn]) -> FeatureSpool:
        """Open a spool for rows of features."""
        return self._limits.spool(columns)

    def check_size(self, image_count: int, column_count: int) -> None:
        """Raise ExhaustedError if the RDMs need too much memory; call it while rows arrive."""
        # float64 for the RDM being computed, and at most float64 for each finished RDM.
        needed = 8 * image_count**2 * (column_count + 1)
        if needed > self._limits.rdm_bytes:
            most = isqrt(self._limits.rdm_bytes // (8 * (column_count + 1)))
            raise ExhaustedError(
                f"{column_count} RDM(s) of {image_count:,} images need {needed:,} bytes; this "
                f"server has {self._limits.rdm_bytes:,} bytes for RDMs, enough for at "
                f"most {most:,} images. Use fewer, or start the server with a larger --rdm-memory",
                field="image",
            )

    def compare(
        self, spool: FeatureSpool, columns: Sequence[str], metric: str
    ) -> AsyncGenerator[Progress | list[RDM]]:
        """Yield progress every second, and the RDMs at the end, in the order of the columns.

        Closing the generator stops the work and waits until it ends, at most one block later.
        """
        tracker = ProgressTracker(len(columns))
        return run_with_progress(
            tracker, partial(self._compute_all, spool, columns, metric=metric, tracker=tracker)
        )

    def _compute_all(
        self, spool: FeatureSpool, columns: Sequence[str], *, metric: str, tracker: ProgressTracker
    ) -> list[RDM]:
        return [
            compute_rdm(
                spool.rows(column),
                metric,
                device=self._device,
                on_block=tracker.on_block(part),
                thread_pool=self._limits.thread_pool,
            )
            for part, column in enumerate(columns)
        ]
