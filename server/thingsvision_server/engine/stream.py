"""One request's place in the batcher: images go in, rows come out; knows no other request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from ..backends.base import Rows
from ..backends.taps import Tap
from ..inputs import InputSpec

_BATCHES_AHEAD = 2
_BATCHES_READY = 2


@dataclass(frozen=True)
class PreparedImage:
    """One image as the model's input."""

    name: str
    tensor: Any
    ready_at: float


@dataclass(frozen=True)
class FeatureRows:
    """Activations of consecutive images of one stream: per module, images x shape, float32."""

    images: list[str]
    arrays: list[Rows]


@dataclass(eq=False)
class BatchStream:
    """Images in, rows out, both in order; at most two batches of each are held.

    An exact stream's batches have `batch_size` images of this stream alone (the last: what is
    left); another's may have fewer, and images of other streams beside them.
    """

    taps: tuple[Tap, ...]
    spec: InputSpec
    batch_size: int
    exact: bool
    changed: asyncio.Event
    """Set when there may be something new to run."""
    ready: deque[PreparedImage] = field(default_factory=deque)
    ended: bool = False
    closed: bool = False
    wait_seconds: float = 0.0
    forward_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.room = asyncio.Semaphore(_BATCHES_READY * self.batch_size)
        self._results: asyncio.Queue[FeatureRows | BaseException | None] = asyncio.Queue()
        self._running_count = self._reading_count = 0

    def put(self, image: PreparedImage) -> None:
        """Add the next image; `room` was acquired for it."""
        self.ready.append(image)
        self.changed.set()

    def end(self) -> None:
        """Say that no image follows."""
        self.ended = True
        self.changed.set()
        self._finish_if_done()

    def fail(self, error: BaseException) -> None:
        """End the stream: its reader gets the error after the rows that are there."""
        self.ready.clear()
        self._results.put_nowait(error)

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
        held = self._running_count + self._results.qsize() + self._reading_count
        count = min(len(self.ready), self.batch_size)
        incomplete = self.exact and count < self.batch_size and not self.ended
        return 0 if incomplete or held >= _BATCHES_AHEAD else count

    def take(self, count: int) -> list[PreparedImage]:
        """Remove the next images, for a batch."""
        self._running_count += 1
        for _ in range(count):
            self.room.release()
        return [self.ready.popleft() for _ in range(count)]

    def give(self, rows: FeatureRows, *, last_of_batch: bool) -> None:
        """Hand rows to the reader."""
        self._running_count -= last_of_batch
        self._results.put_nowait(rows)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self.ended and not self.ready and not self._running_count:
            self._results.put_nowait(None)
