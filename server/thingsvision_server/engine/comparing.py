"""Computes RDMs of collected features, which may be larger than memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isqrt
from pathlib import Path

from ..errors import ExhaustedError
from ..rdm.compare import RDM, compute_rdm
from .analysis_device import AnalysisDevice
from .fairness.turns import Turns
from .progress import Progress, ProgressTracker, run_with_progress
from .rows.spill import SpillQuota
from .rows.spool import FeatureSpool, SpoolColumn


@dataclass(frozen=True)
class AnalysisLimits:
    """Host memory for features and for RDMs and PCAs, and a folder for spilled features."""

    features_bytes: int
    rdm_bytes: int
    spill_dir: Path | None
    thread_pool: bool = True
    """Whether a CPU computes with one thread for each core, or with the threads of BLAS."""
    turns: Turns = field(default_factory=Turns)
    """Shares the computations over people."""

    spill_quota: SpillQuota = field(default_factory=SpillQuota)

    def spool(self, columns: Sequence[SpoolColumn], image_count: int = 0) -> FeatureSpool:
        """Open a spool for rows of features: in memory first, then in a file.

        Raises ExhaustedError if the announced images (0: not announced) would not fit there.
        """
        spool = FeatureSpool(columns, self.features_bytes, self.spill_dir, self.spill_quota)
        spool.expect(image_count)
        return spool


class Comparer:
    """Computes RDMs of collected features on one device."""

    def __init__(self, device: AnalysisDevice, limits: AnalysisLimits) -> None:
        self._device = device
        self._limits = limits

    def open_spool(self, columns: Sequence[SpoolColumn], image_count: int = 0) -> FeatureSpool:
        """Open a spool for rows of features, of so many images if they are announced."""
        return self._limits.spool(columns, image_count)

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
        work = partial(self._compute_all, spool, columns, metric=metric, tracker=tracker)
        return run_with_progress(tracker, work, self._limits.turns)

    def _compute_all(
        self, spool: FeatureSpool, columns: Sequence[str], *, metric: str, tracker: ProgressTracker
    ) -> list[RDM]:
        return [
            self._device.run(
                partial(
                    compute_rdm,
                    spool.rows(column),
                    metric,
                    on_block=tracker.on_block(part),
                    thread_pool=self._limits.thread_pool,
                )
            )
            for part, column in enumerate(columns)
        ]
