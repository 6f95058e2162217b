"""Collects the features of a request's images until all are there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy.typing as npt

from thingsvision_proto.wire import ColumnSpec

from ..engine.extractor import Extraction
from ..engine.passes.stream import FeatureRows, Hole
from ..engine.rows.spool import FeatureSpool, SpoolColumn
from ..engine.waiting import Waiting
from ..errors import ImageError

_PROGRESS_SECONDS = 1.0

Arrays = Sequence[npt.NDArray[Any]]

Check = Callable[["RowCollection", Sequence[str], Arrays], None]
"""Raises if the next rows can't be accepted."""

Open = Callable[[Sequence[SpoolColumn]], FeatureSpool]
"""Opens a spool for rows."""


@dataclass
class RowCollection:
    """Rows of features in image order, and the extraction that they come from, if any."""

    spool: FeatureSpool
    columns: Sequence[ColumnSpec]
    images: list[str] = field(default_factory=list)
    skipped: list[Hole] = field(default_factory=list)
    extraction: Extraction | None = None
    reported_at: float = field(default_factory=time.monotonic)

    async def append(self, images: Sequence[str], arrays: Arrays, check: Check) -> None:
        """Append rows; raise what `check` raises."""
        check(self, images, arrays)
        await asyncio.to_thread(self._append, images, arrays)

    def _append(self, images: Sequence[str], arrays: Arrays) -> None:
        self.spool.append([array.reshape(len(images), -1) for array in arrays])
        self.images += images

    def progress_is_due(self) -> bool:
        """Tell whether to report progress now: at most once a second."""
        now = time.monotonic()
        due = now - self.reported_at >= _PROGRESS_SECONDS
        self.reported_at = now if due else self.reported_at
        return due


def open_collection(
    columns: Sequence[ColumnSpec], open_spool: Open, stack: ExitStack
) -> RowCollection:
    """Open a collection of rows of these columns; the stack closes it."""
    spool_columns = [SpoolColumn(c.name, prod(c.shape), c.dtype) for c in columns]
    return RowCollection(stack.enter_context(open_spool(spool_columns)), columns)


async def collect_rows(
    rows: AsyncGenerator[FeatureRows | Waiting], collected: RowCollection, check: Check
) -> AsyncGenerator[RowCollection | Waiting]:
    """Collect rows as they are extracted, and yield the collection after each batch.

    Yield also what the request waits for between its batches.
    """
    async with aclosing(rows) as batches:
        async for batch in batches:
            if isinstance(batch, Waiting):
                yield batch
                continue
            collected.skipped += batch.skipped
            if batch.images:
                await collected.append(batch.images, batch.arrays, check)
            yield collected
    if not collected.images:
        reasons = [f"image {hole.index} {hole.reason}" for hole in collected.skipped[:1]]
        raise ImageError("; ".join(["no image can be used", *reasons]), field="image")
