"""One request's place in the batcher: images go in, rows come out; knows no other request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Gauge

from ...backends.base import Rows
from .work import Work

_BATCHES_READY = 2
"""Batches of images that are prepared, or being prepared: one to run next, one to follow it."""


@dataclass(frozen=True)
class PreparedImage:
    """One image as the model's input."""

    name: str
    tensor: Any
    ready_at: float


@dataclass(frozen=True)
class FeatureRows:
    """Features of consecutive images of one stream: per module, images x shape."""

    images: list[str]
    arrays: list[Rows]
    overflow_count: int = 0
    """Values that the element type can't hold."""


_Result = FeatureRows | BaseException | None


@dataclass(eq=False)
class BatchStream:
    """Images in, rows out, both in order; of each a few batches at most are held.

    Batches may end in any order. An exact stream's batches have `batch_size` images of this
    stream alone (the last: what is left); another's may have fewer, and images of other streams
    beside them.
    """

    work: Work
    batch_size: int
    exact: bool
    changed: asyncio.Event
    """Set when there may be something new to run."""
    depth: Gauge
    """Images that wait for the device, of all streams."""
    most_batches: int = 2
    """Batches that run, or whose rows wait for the reader."""
    ready: deque[PreparedImage] = field(default_factory=deque)
    ended: bool = False
    closed: bool = False
    wait_seconds: float = 0.0
    forward_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.room = asyncio.Semaphore(_BATCHES_READY * self.batch_size)
        self._results: asyncio.Queue[_Result] = asyncio.Queue()
        self._begun_count = self._given_count = self._reading_count = 0
        self._early: dict[int, list[FeatureRows] | BaseException] = {}

    def put(self, image: PreparedImage) -> None:
        """Add the next image; `room` was acquired for it."""
        self.ready.append(image)
        self.depth.inc()
        self.changed.set()

    def end(self) -> None:
        """Say that no image follows."""
        self.ended = True
        self.changed.set()
        self._finish_if_done()

    def fail(self, error: BaseException) -> None:
        """End the stream: its reader gets the error after the rows that are there."""
        self.drop()
        self._results.put_nowait(error)

    def drop(self) -> int:
        """Forget what waits for the device, and return how many images that were."""
        count = len(self.ready)
        self.ready.clear()
        self.depth.dec(count)
        return count

    async def results(self) -> AsyncGenerator[FeatureRows]:
        """Yield rows in the order of the images; raise what went wrong with them."""
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
        running = self._begun_count - self._given_count
        held = running + self._results.qsize() + self._reading_count
        count = min(len(self.ready), self.batch_size)
        incomplete = self.exact and count < self.batch_size and not self.ended
        return 0 if incomplete or held >= self.most_batches else count

    def take(self, count: int) -> Share:
        """Remove the next images, for a batch."""
        for _ in range(count):
            self.room.release()
        share = Share(self, self._begun_count, [self.ready.popleft() for _ in range(count)])
        self._begun_count += 1
        self.depth.dec(count)
        return share

    def give(self, place: int, result: list[FeatureRows] | BaseException) -> None:
        """Hand the rows of a share, or what went wrong with it, to the reader, in their turn."""
        self._early[place] = result
        while (due := self._early.pop(self._given_count, None)) is not None:
            self._given_count += 1
            if isinstance(due, BaseException):
                self.fail(due)
                continue
            for rows in due:
                self._results.put_nowait(rows)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self.ended and not self.ready and self._begun_count == self._given_count:
            self._results.put_nowait(None)


@dataclass(frozen=True)
class Share:
    """Consecutive images of one stream in a batch, and its place among the stream's shares."""

    stream: BatchStream
    place: int
    images: list[PreparedImage]
