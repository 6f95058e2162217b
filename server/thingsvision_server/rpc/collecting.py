"""Features of a request's images, collected until all are there; knows no comparison and no fit."""

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
from ..engine.passes.stream import FeatureRows
from ..engine.rows.spool import FeatureSpool, SpoolColumn

_PROGRESS_SECONDS = 1.0

Arrays = Sequence[npt.NDArray[Any]]

Check = Callable[["Collected", Sequence[str], Arrays], None]
"""Raises where rows that come next can't be taken."""

Open = Callable[[Sequence[SpoolColumn]], FeatureSpool]
"""Opens a place for rows."""


@dataclass
class Collected:
    """Rows of features in image order, and how they came about."""

    spool: FeatureSpool
    columns: Sequence[ColumnSpec]
    images: list[str] = field(default_factory=list)
    extraction: Extraction | None = None
    told_at: float = field(default_factory=time.monotonic)

    async def append(self, images: Sequence[str], arrays: Arrays, check: Check) -> None:
        """Keep more rows; raises what `check` does."""
        check(self, images, arrays)
        await asyncio.to_thread(self._append, images, arrays)

    def _append(self, images: Sequence[str], arrays: Arrays) -> None:
        self.spool.append([array.reshape(len(images), -1) for array in arrays])
        self.images += images

    def progress_is_due(self) -> bool:
        """Tell, at most once a second, whether its user should hear how far it is."""
        now = time.monotonic()
        due = now - self.told_at >= _PROGRESS_SECONDS
        self.told_at = now if due else self.told_at
        return due


def begun(columns: Sequence[ColumnSpec], open_spool: Open, stack: ExitStack) -> Collected:
    """Return a place for rows of these columns, which the stack closes."""
    spooled = [SpoolColumn(c.name, prod(c.shape), c.dtype) for c in columns]
    return Collected(stack.enter_context(open_spool(spooled)), columns)


async def collect_rows(
    rows: AsyncGenerator[FeatureRows], collected: Collected, check: Check
) -> AsyncGenerator[Collected]:
    """Collect rows as they are extracted, and yield what is there after each batch."""
    async with aclosing(rows) as batches:
        async for batch in batches:
            await collected.append(batch.images, batch.arrays, check)
            yield collected
