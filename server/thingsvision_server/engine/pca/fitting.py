"""Fits PCAs of collected features, which may be larger than memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial

import numpy as np

from ...errors import ExhaustedError, InvalidRequestError
from ...rdm.pca import Components, compute_pca
from ..analysis_device import AnalysisDevice
from ..comparing import AnalysisLimits
from ..progress import Progress, ProgressTracker, run_with_progress
from ..rows.spool import FeatureSpool, SpoolColumn
from .fitted import Array


class Fitter:
    """Fits PCAs with `component_count` components, within the memory limits of RDMs."""

    def __init__(
        self, device: AnalysisDevice, limits: AnalysisLimits, component_count: int
    ) -> None:
        self._device = device
        self._limits = limits
        self._component_count = component_count

    def open_spool(self, columns: Sequence[SpoolColumn], image_count: int = 0) -> FeatureSpool:
        """Open a spool for rows of features; raise if they have too few values."""
        for column in columns:
            if not 1 <= self._component_count <= column.value_count:
                raise InvalidRequestError(
                    f"a PCA of module {column.name!r} must have 1 to {column.value_count:,} "
                    f"components (the values of one image's features), got "
                    f"{self._component_count:,}",
                    field="component_count",
                    subject=column.name,
                )
        return self._limits.spool(columns, image_count)

    def check_rows(
        self, images: Sequence[str], columns: Sequence[SpoolColumn], arrays: Sequence[Array]
    ) -> None:
        """Raise if a value is not finite, because it would spoil all axes."""
        for column, array in zip(columns, arrays, strict=True):
            finite = np.isfinite(array.reshape(len(images), -1)).all(1)
            if not finite.all():
                image = images[int(np.argmin(finite))]
                raise InvalidRequestError(
                    f"features for a PCA must be finite, but image {image!r} has NaN or infinite "
                    f"features of module {column.name!r}; leave the image out",
                    field="image",
                    subject=image,
                )

    def check_size(self, image_count: int, columns: Sequence[SpoolColumn]) -> None:
        """Raise ExhaustedError if the fit needs too much memory; call it while rows arrive."""
        count = self._component_count
        # float64 products and eigenvectors of one module; float32 axes of all modules, in memory
        # and once more as they are written.
        sides = [min(image_count, column.value_count) for column in columns]
        products = max(side * (side + count) for side in sides)
        needed = 8 * (products + count * sum(column.value_count for column in columns))
        if needed > self._limits.rdm_bytes:
            raise ExhaustedError(
                f"a PCA of {image_count:,} images with {count:,} components needs {needed:,} "
                f"bytes; this server has {self._limits.rdm_bytes:,} for RDMs and PCAs: use fewer "
                "images or components, or pool the features first",
                field="image",
            )

    def fit(self, spool: FeatureSpool) -> AsyncGenerator[Progress | list[Components]]:
        """Yield progress every second, and the components at the end, in the order of the columns.

        Closing the generator stops the work and waits until it ends, at most one step later.
        Raises InvalidRequestError if the features have fewer components.
        """
        count = self._component_count
        if count > spool.row_count - 1:
            raise InvalidRequestError(
                f"a PCA of {spool.row_count:,} images must have at most {spool.row_count - 1:,} "
                f"components (one fewer than images), got {count:,}",
                field="component_count",
            )
        tracker = ProgressTracker(len(spool.columns))
        work = partial(self._fit_all, spool, tracker)
        return run_with_progress(tracker, work, self._limits.turns)

    def _fit_all(self, spool: FeatureSpool, tracker: ProgressTracker) -> list[Components]:
        return [
            self._fit_one(spool, column.name, tracker, part)
            for part, column in enumerate(spool.columns)
        ]

    def _fit_one(
        self, spool: FeatureSpool, column: str, tracker: ProgressTracker, part: int
    ) -> Components:
        rows, count = spool.rows(column), self._component_count
        found = self._device.run(
            partial(
                compute_pca,
                rows,
                count,
                on_block=tracker.on_block(part),
                thread_pool=self._limits.thread_pool,
            )
        )
        if len(found.axes) < count:
            raise InvalidRequestError(
                f"a PCA of module {column!r} must have at most {len(found.axes):,} components, got "
                f"{count:,}: over these {spool.row_count:,} images, its features vary in only "
                f"{len(found.axes):,} directions",
                field="component_count",
                subject=column,
            )
        return found
