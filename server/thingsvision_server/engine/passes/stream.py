"""One request's place in the batcher: images go in, rows come out, both in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Gauge

from ...backends.base import Rows
from .forward import ForwardSpec

_BATCHES_READY = 2
"""Batches of images that are prepared or being prepared: one to run next, one after it."""


@dataclass(frozen=True)
class PreparedImage:
    """One image as input of the model."""

    name: str
    tensor: Any
    ready_at: float


@dataclass(frozen=True)
class Hole:
    """The place of an image that can't be used.

    Its batch keeps its size and order, so that the rows of the other images keep their bits.
    """

    index: int
    ready_at: float
    reason: str = ""
    """What is wrong with the image; empty: none was sent."""


Prepared = PreparedImage | Hole


@dataclass(frozen=True)
class FeatureRows:
    """Features of consecutive images of one stream: per module, images x shape.

    Images that were skipped among them have no row.
    """

    images: list[str]
    arrays: list[Rows]
    overflow_count: int = 0
    """Finite values that are infinite in the element type."""
    skipped: list[Hole] = field(default_factory=list)


_Result = FeatureRows | BaseException | None


@dataclass(eq=False)
class BatchStream:
    """Takes images and yields their rows, both in order; holds at most a few batches of each.

    Batches may end in any order. A batch of an exact stream has `batch_size` images of this stream
    alone (the last batch: the images left). A batch of any other stream may have fewer, and images
    of other streams beside them.
    """

    forward: ForwardSpec
    batch_size: int
    exact: bool
    changed: asyncio.Event
    """Set when there may be something new to run."""
    depth: Gauge
    """Counts images that wait for the device, of all streams."""
    max_batches: int = 2
    """Most batches that run or whose rows wait for the reader."""
    ready: deque[Prepared] = field(default_factory=deque)
    ended: bool = False
    closed: bool = False
    wait_seconds: float = 0.0
    forward_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.room = asyncio.Semaphore(_BATCHES_READY * self.batch_size)
        self._results: asyncio.Queue[_Result] = asyncio.Queue()
        self._taken_count = self._delivered_count = self._reading_count = 0
        self._early: dict[int, list[FeatureRows] | BaseException] = {}

    def put(self, image: Prepared) -> None:
        """Add the next image or hole; acquire `room` for it first."""
        self.ready.append(image)
        self.depth.inc()
        self.changed.set()

    def end(self) -> None:
        """Mark that no image follows."""
        self.ended = True
        self.changed.set()
        self._finish_if_done()

    def fail(self, error: BaseException) -> None:
        """End the stream: its reader gets the error after the rows delivered before it."""
        self.drop()
        self._results.put_nowait(error)

    def drop(self) -> int:
        """Drop the images that wait for the device, and return their number."""
        count = len(self.ready)
        self.ready.clear()
        self.depth.dec(count)
        return count

    async def results(self) -> AsyncGenerator[FeatureRows]:
        """Yield rows in the order of the images; raise the error that ended the stream."""
        while (result := await self._results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            self._reading_count = 1
            yield result
            self._reading_count = 0
            self.changed.set()

    @property
    def runnable_count(self) -> int:
        """Return how many images may go into a batch now."""
        running = self._taken_count - self._delivered_count
        held = running + self._results.qsize() + self._reading_count
        count = min(len(self.ready), self.batch_size)
        incomplete = self.exact and count < self.batch_size and not self.ended
        return 0 if incomplete or held >= self.max_batches else count

    def take(self, count: int) -> Share:
        """Remove the next images, for a batch."""
        for _ in range(count):
            self.room.release()
        share = Share(self, self._taken_count, [self.ready.popleft() for _ in range(count)])
        self._taken_count += 1
        self.depth.dec(count)
        return share

    def deliver(self, place: int, result: list[FeatureRows] | BaseException) -> None:
        """Hand the rows or error of a share to the reader, after those of all earlier shares."""
        self._early[place] = result
        while (due := self._early.pop(self._delivered_count, None)) is not None:
            self._delivered_count += 1
            if isinstance(due, BaseException):
                self.fail(due)
                continue
            for rows in due:
                self._results.put_nowait(rows)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self.ended and not self.ready and self._taken_count == self._delivered_count:
            self._results.put_nowait(None)


@dataclass(frozen=True)
class Share:
    """Consecutive images of one stream in a batch, and its place among the stream's shares."""

    stream: BatchStream
    place: int
    images: list[Prepared]
