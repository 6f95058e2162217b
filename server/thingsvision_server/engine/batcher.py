"""Merges what waits for one model into batches and runs them; knows no request's origin.

There is no timer: a batch is chosen when the device is free, from what is ready then, so
batches grow under load. A stream whose reader is slow stops only itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import structlog

from ..backends.base import BatchRun, OutOfDeviceMemoryError, RunnableModel
from ..backends.taps import Tap
from ..errors import DeviceMemoryError
from ..inputs import InputSpec
from ..metrics import Metrics
from .lane import DeviceLane
from .stream import BatchStream, FeatureRows, PreparedImage

_log = structlog.get_logger(__name__)

_Batch = list[tuple[BatchStream, PreparedImage]]


@dataclass(frozen=True)
class BatchLimits:
    """What one forward pass may at most hold."""

    images: int
    activation_bytes: int

    def images_for(self, taps: Sequence[Tap]) -> int:
        """Return how many images fit, at least one."""
        row_bytes = sum(tap.row_bytes for tap in taps)
        return max(1, min(self.images, self.activation_bytes // max(1, row_bytes)))


class Batcher:
    """The streams of one model on one device."""

    def __init__(
        self, model: RunnableModel, lane: DeviceLane, limits: BatchLimits, metrics: Metrics
    ) -> None:
        self.limits = limits
        self._model = model
        self._lane = lane
        self._metrics = metrics
        self._streams: list[BatchStream] = []
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @contextmanager
    def open(
        self, taps: tuple[Tap, ...], spec: InputSpec, batch_size: int
    ) -> Iterator[BatchStream]:
        """Yield a stream of inputs of `spec`; batch_size 0 leaves it to what is ready."""
        most = self.limits.images_for(taps)
        size = min(batch_size or most, most)
        stream = BatchStream(taps, spec, size, exact=batch_size > 0, changed=self._changed)
        self._streams.append(stream)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="batcher")
        try:
            yield stream
        finally:
            stream.closed = True
            self._streams.remove(stream)
            self._metrics.cancelled_images.inc(len(stream.ready))
            self._changed.set()

    async def _work(self) -> None:
        """Run batches until no stream is left."""
        while self._streams:
            if not any(stream.runnable_count for stream in self._streams):
                self._changed.clear()
                await self._changed.wait()
                continue
            async with self._lane.turn():
                # Chosen only now: what became ready while others used the device joins in.
                await self._run(self._choose())

    def _choose(self) -> _Batch:
        """Take the next batch; the stream that leads it goes to the end of the turn."""
        leader = next((stream for stream in self._streams if stream.runnable_count), None)
        if leader is None:
            return []
        self._streams.remove(leader)
        self._streams.append(leader)
        batch: _Batch = []
        for stream in [leader, *self._companions(leader)]:
            count = min(stream.runnable_count, leader.batch_size - len(batch))
            if count:
                batch += [(stream, image) for image in stream.take(count)]
        return batch

    def _companions(self, leader: BatchStream) -> list[BatchStream]:
        return [
            stream
            for stream in self._streams
            if stream is not leader
            and not (leader.exact or stream.exact)
            and (stream.taps, stream.spec) == (leader.taps, leader.spec)
        ]

    async def _run(self, batch: _Batch) -> None:
        """Run a batch, in halves where the device has no room for it."""
        started = time.monotonic()
        for stream, parts in groupby(batch, key=lambda part: part[0]):
            stream.wait_seconds += started - next(parts)[1].ready_at
        for _, image in batch:
            self._metrics.queue_wait_seconds.observe(started - image.ready_at)
        pieces = [batch] if batch else []
        while pieces:
            piece = pieces.pop(0)
            run = self._lane.run(
                partial(self._model.run, [image.tensor for _, image in piece], piece[0][0].taps)
            )
            await asyncio.wait({run})
            if isinstance(run.exception(), OutOfDeviceMemoryError) and len(piece) > 1:
                middle = len(piece) // 2
                _log.warning("device out of memory, halving the batch", images=len(piece))
                pieces = [piece[:middle], piece[middle:], *pieces]
            else:
                self._deliver(piece, run, last_stream=pieces[0][0][0] if pieces else None)

    def _deliver(
        self, piece: _Batch, run: asyncio.Future[BatchRun], last_stream: BatchStream | None
    ) -> None:
        error = run.exception()
        start = 0
        if error is None:
            self._observe(piece, run.result())
        for stream, parts in groupby(piece, key=lambda part: part[0]):
            images = [image.name for _, image in parts]
            stop = start + len(images)
            if error is not None:
                stream.fail(_as_error(error))
            elif not stream.closed:
                result = run.result()
                stream.forward_seconds += result.forward_seconds
                rows = FeatureRows(images, [array[start:stop] for array in result.rows])
                stream.give(rows, last_of_batch=stream is not last_stream)
            start = stop

    def _observe(self, piece: _Batch, run: BatchRun) -> None:
        metrics, count = self._metrics, len(piece)
        metrics.copy_seconds.observe(run.copy_seconds)
        metrics.forward_seconds.observe(run.forward_seconds)
        metrics.batch_images.observe(count)
        metrics.batch_fill.observe(count / piece[0][0].batch_size)
        metrics.images.inc(count)
        metrics.activation_bytes.inc(sum(rows.nbytes for rows in run.rows))


def _as_error(error: BaseException) -> BaseException:
    if isinstance(error, OutOfDeviceMemoryError):
        reason = str(error).partition("\n")[0]
        return DeviceMemoryError(
            f"the device has no room for the activations of a single image: {reason}"
        )
    return error
