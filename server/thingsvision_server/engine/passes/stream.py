"""One request's place in the batcher: images go in, rows come out, both in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from ...backends.base import Rows
from ..fairness.in_flight import Held
from ..fairness.order import Account
from ..waiting import Waiting
from .cores import CorePlan
from .forward import ForwardSpec
from .slots import InputSlots, Slot

_BATCHES_READY = 2
"""Batches of images that are prepared or being prepared: one to run next, one after it."""


@dataclass(frozen=True)
class PreparedImage:
    """One image as input of the model."""

    name: str
    tensor: Any
    ready_at: float
    slot: Slot | None = None
    """Where the tensor lies, beside those of its neighbours."""


@dataclass(frozen=True)
class Hole:
    """The place of an image that can't be used.

    Its batch keeps its size and order, so that the rows of the other images keep their bits.
    """

    index: int
    ready_at: float
    reason: str = ""
    """What is wrong with the image; empty: none was sent."""
    slot: Slot | None = None
    """Where its input would lie."""


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
    place_count: int = 0
    """Images that the rows are of, holes included."""
    pass_size: int = 0
    """Images in their pass, if the device had no room for their batch; 0: it had."""


_Result = FeatureRows | Waiting | BaseException | None


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
    cores: CorePlan | None
    """The cores of each batch; None: those of a lane."""
    account: Account
    """Whose turn it is follows from it."""
    trace: Any
    """The span of the request, for its passes; None if nothing is traced."""
    person: str
    """Whom its passes are counted for."""
    count_queued: Callable[[BatchStream, int], object]
    """Is told of images more, or fewer, of this stream that wait for the device."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there may be something new to run: the batcher's, where the stream has one."""
    max_batches: int = 2
    """Most batches that run or whose rows wait for the reader."""
    ready: deque[Prepared] = field(default_factory=deque)
    ended: bool = False
    closed: bool = False
    held: Held | None = None
    """What its person may hold, if that is limited; its images wait for that."""
    wait_seconds: float = 0.0
    forward_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.room = asyncio.Semaphore(_BATCHES_READY * self.batch_size)
        self.slots = InputSlots(self.forward.input_spec, self.batch_size, exact=self.exact)
        self._results: asyncio.Queue[_Result] = asyncio.Queue()
        self._taken_count = self._delivered_count = self._taken_images = 0
        self._unread_count = self._reading_count = self._preparing_count = 0
        self._worked_at = time.monotonic()
        self._early: dict[int, list[FeatureRows] | BaseException] = {}

    def begin_image(self) -> Slot:
        """Count an image that is being prepared, and return its slot; acquire `room` first."""
        self._preparing_count += 1
        return self.slots.take()

    def put(self, image: Prepared) -> None:
        """Add the next image or hole, which has begun."""
        self._preparing_count -= 1
        if self.closed:
            return
        self._worked_at = time.monotonic()
        self.ready.append(image)
        self.count_queued(self, 1)
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
        self.count_queued(self, -count)
        return count

    def close(self) -> int:
        """Let go of images and rows, which nobody reads any more; return how many images waited.

        gRPC may hold the call of a client that left, and with it this stream.
        """
        self.closed = True
        self.slots.close()
        self._early.clear()
        results = [self._results.get_nowait() for _ in range(self._results.qsize())]
        for result in results:
            if not isinstance(result, FeatureRows):
                self._results.put_nowait(result)
        return self.drop()

    def tell(self, waiting: Waiting) -> None:
        """Have the reader know what the stream waits for."""
        self._results.put_nowait(waiting)

    async def results(self) -> AsyncGenerator[FeatureRows | Waiting]:
        """Yield rows in the order of the images; raise the error that ended the stream."""
        while (result := await self._results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            if isinstance(result, Waiting):
                yield result
                continue
            self._unread_count -= 1
            self._reading_count = 1
            yield result
            self._reading_count = 0
            if self.held is not None:
                self.held.end_images(result.place_count)
            self._worked_at = time.monotonic()
            self.changed.set()

    @property
    def idle_seconds(self) -> float:
        """Return how long it has waited for its client: for images, or for rows to be read."""
        running = self._taken_count - self._delivered_count
        works = running or self._preparing_count > 0 or self.runnable_count
        return 0.0 if works else time.monotonic() - self._worked_at

    async def wait_until_idle(self, seconds: float) -> None:
        """Wait until the stream has waited for its client for so long."""
        while (left := seconds - self.idle_seconds) > 0:
            await asyncio.sleep(left)

    async def wait_until_runnable(self) -> None:
        """Wait until the client goes on."""
        while not self.runnable_count:
            self.changed.clear()
            await self.changed.wait()

    @property
    def runnable_count(self) -> int:
        """Return how many images may go into a batch now."""
        running = self._taken_count - self._delivered_count
        held = running + self._unread_count + self._reading_count
        count = min(len(self.ready), self.batch_size)
        incomplete = self.exact and count < self.batch_size and not self.ended
        return 0 if incomplete or held >= self.max_batches else count

    @property
    def next_cores(self) -> int:
        """Return the cores of the next batch; 0: those of a lane."""
        return 0 if self.cores is None else self.cores.at(self._taken_images)

    def take(self, count: int) -> Share:
        """Remove the next images, for a batch."""
        for _ in range(count):
            self.room.release()
        share = Share(self, self._taken_count, [self.ready.popleft() for _ in range(count)])
        self._taken_count += 1
        self._taken_images += count
        self.count_queued(self, -count)
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
                self._unread_count += 1
                self._results.put_nowait(rows)
        self._worked_at = time.monotonic()
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
