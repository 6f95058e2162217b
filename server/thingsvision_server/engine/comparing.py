"""RDMs of features that may not fit into memory: collected, compared; knows no wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path

from ..errors import ExhaustedError
from ..rdm.compare import RDM, compute_rdm
from .rows.spool import FeatureSpool, SpoolColumn
from .watching import Progress, Watch, watched


@dataclass(frozen=True)
class ComparingLimits:
    """What a comparison may take: host memory for features and for RDMs, a folder for the rest."""

    features_bytes: int
    rdm_bytes: int
    spill_dir: Path | None
    thread_pool: bool = True
    """Whether a CPU computes with one thread for each core, or with those of BLAS."""

    def spool(self, columns: Sequence[SpoolColumn]) -> FeatureSpool:
        """Open a place for rows of features: memory first, then a file."""
        return FeatureSpool(columns, self.features_bytes, self.spill_dir)


class Comparer:
    """Computes RDMs of collected features on one device."""

    def __init__(self, device: str, limits: ComparingLimits) -> None:
        self._device = device
        self._limits = limits

    def collect(self, columns: Sequence[SpoolColumn]) -> FeatureSpool:
        """Open a place for rows of features."""
        return self._limits.spool(columns)

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

    def compare(
        self, spool: FeatureSpool, columns: Sequence[str], metric: str
    ) -> AsyncGenerator[Progress | list[RDM]]:
        """Yield progress every second, and at last the RDMs of the columns, in their order.

        Close the generator to stop: the work ends within a block, before this returns.
        """
        watch = Watch(len(columns))
        return watched(watch, partial(self._compute_all, spool, columns, metric, watch))

    def _compute_all(
        self, spool: FeatureSpool, columns: Sequence[str], metric: str, watch: Watch
    ) -> list[RDM]:
        return [
            compute_rdm(
                spool.rows(column),
                metric,
                device=self._device,
                on_block=watch.on_block(part),
                thread_pool=self._limits.thread_pool,
            )
            for part, column in enumerate(columns)
        ]
