"""Merges the images that wait for one model, of any request, into batches and runs them.

There is no timer: a batch is chosen when a lane of the device is free, from the images that are
ready then, so batches grow under load. A slow reader holds up only its own stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from ...backends.base import BatchRun, OutOfDeviceMemoryError, Rows, RunnableModel
from ...backends.taps import Tap
from ...errors import DeviceMemoryError
from ...metrics import Metrics
from .forward import ForwardSpec, Overflows
from .lanes import DeviceLanes, Turn
from .stream import BatchStream, FeatureRows, Hole, Prepared, PreparedImage, Share

_log = structlog.get_logger(__name__)

_Batch = list[Share]
_Piece = tuple[BatchRun, Overflows]


@dataclass(frozen=True)
class BatchLimits:
    """The limits of one forward pass."""

    images: int
    activation_bytes: int

    def max_images(self, taps: Sequence[Tap]) -> int:
        """Return how many images fit into a pass, at least one."""
        return max(1, min(self.images, self.activation_bytes // _row_bytes(taps)))

    def name_lowest(self, taps: Sequence[Tap]) -> str:
        """Return the limit that `max_images` is due to, as the server's option sets it."""
        row_bytes = _row_bytes(taps)
        if self.images <= self.activation_bytes // row_bytes:
            return f"--max-batch {self.images}"
        return (
            f"--max-batch-bytes {self.activation_bytes:,}, where an image has {row_bytes:,} bytes "
            "of activations"
        )


def _row_bytes(taps: Sequence[Tap]) -> int:
    return max(1, sum(tap.row_bytes for tap in taps))


class Batcher:
    """Runs the batches of one model on one device, from all open streams."""

    def __init__(
        self, model: RunnableModel, lanes: DeviceLanes, limits: BatchLimits, metrics: Metrics
    ) -> None:
        self.limits = limits
        self._model = model
        self._lanes = lanes
        self._metrics = metrics
        self._max_passes = lanes.width if model.is_concurrent else 1
        self._streams: list[BatchStream] = []
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._passes: set[asyncio.Task[None]] = set()

    @contextmanager
    def open(self, forward: ForwardSpec, batch_size: int) -> Iterator[BatchStream]:
        """Yield a stream of images for this pass; batch_size 0 means as many as are ready."""
        most = self.limits.max_images(forward.taps)
        size = min(batch_size or most, most)
        stream = BatchStream(
            forward,
            size,
            exact=batch_size > 0,
            changed=self._changed,
            depth=self._metrics.queue_depth,
            max_batches=self._max_passes + 1,
        )
        self._streams.append(stream)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="batcher")
        try:
            yield stream
        finally:
            stream.closed = True
            self._streams.remove(stream)
            self._metrics.cancelled_images.inc(stream.drop())
            self._changed.set()

    async def drain(self) -> None:
        """Wait for passes that still run, including those whose readers have left."""
        while self._passes:
            await asyncio.wait(self._passes)

    async def _work(self) -> None:
        """Start passes until no stream is left."""
        while self._streams:
            has_room = len(self._passes) < self._max_passes
            if not has_room or not any(stream.runnable_count for stream in self._streams):
                self._changed.clear()
                await self._changed.wait()
                continue
            turn = await self._lanes.turn()
            # Choose only now, so that images that became ready during the wait join the batch.
            batch = self._choose()
            if self._is_last(batch):
                await turn.widen()
            self._start(batch, turn)

    def _start(self, batch: _Batch, turn: Turn) -> None:
        running = asyncio.create_task(self._run(batch, turn), name="pass")
        self._passes.add(running)
        running.add_done_callback(self._on_pass_end)

    def _on_pass_end(self, running: asyncio.Task[None]) -> None:
        self._passes.discard(running)
        self._changed.set()

    def _choose(self) -> _Batch:
        """Take the next batch; the stream that leads it moves to the end of the queue."""
        leader = next((stream for stream in self._streams if stream.runnable_count), None)
        if leader is None:
            return []
        self._streams.remove(leader)
        self._streams.append(leader)
        batch, room = [], leader.batch_size
        for stream in [leader, *self._companions(leader)]:
            count = min(stream.runnable_count, room)
            if count:
                batch.append(stream.take(count))
                room -= count
        return batch

    def _companions(self, leader: BatchStream) -> list[BatchStream]:
        return [
            stream
            for stream in self._streams
            if stream is not leader
            and not (leader.exact or stream.exact)
            and stream.forward == leader.forward
        ]

    def _is_last(self, batch: _Batch) -> bool:
        """Tell whether nothing but this batch is left to do; false for batches of exact streams."""
        whole = all(share.stream.ended and not share.stream.exact for share in batch)
        return whole and not any(stream.ready for stream in self._streams)

    async def _run(self, batch: _Batch, turn: Turn) -> None:
        """Run a batch, and deliver its rows, or its error, to the streams."""
        try:
            self._observe_wait(batch)
            images = [image for share in batch for image in share.images]
            filler = next((one for one in images if isinstance(one, PreparedImage)), None)
            result: list[_Piece] | BaseException = []
            if filler is not None:
                inputs = [(filler if isinstance(one, Hole) else one).tensor for one in images]
                result = await self._run_pass(inputs, batch[0].stream.forward, turn)
        finally:
            turn.end()
        if not isinstance(result, BaseException):
            self._deliver(batch, result)
            return
        for share in batch:
            share.stream.deliver(share.place, _as_error(result, share.stream.forward))

    async def _run_pass(
        self, inputs: list[Any], forward: ForwardSpec, turn: Turn
    ) -> list[_Piece] | BaseException:
        """Run a pass; halve it while the device has no room. Return the rows, or the error."""
        runs: list[_Piece] = []
        pieces = [inputs]
        while pieces:
            piece = pieces.pop(0)
            # Reassigning `run` frees a failed run, which holds the memory of its batch.
            run = turn.run(partial(forward.run, self._model, piece))
            await asyncio.wait({run})
            # A compiled pass has a fixed number of images.
            can_halve = len(piece) > 1 and not forward.pass_size
            if isinstance(run.exception(), OutOfDeviceMemoryError) and can_halve:
                _log.warning("device out of memory, halving the batch", images=len(piece))
                middle = len(piece) // 2
                pieces = [piece[:middle], piece[middle:], *pieces]
            elif (error := run.exception()) is not None:
                return error
            else:
                runs.append(run.result())
        return runs

    def _deliver(self, batch: _Batch, pieces: list[_Piece]) -> None:
        start = 0
        for run, _ in pieces:
            self._observe_run(run, batch[0].stream.batch_size)
        for share in batch:
            stop = start + len(share.images)
            if not share.stream.closed:
                share.stream.forward_seconds += sum(run.forward_seconds for run, _ in pieces)
                share.stream.deliver(share.place, list(_rows(share, pieces, start)))
            start = stop

    def _observe_wait(self, batch: _Batch) -> None:
        now = time.monotonic()
        for share in batch:
            share.stream.wait_seconds += now - share.images[0].ready_at
            for image in share.images:
                self._metrics.queue_wait_seconds.observe(now - image.ready_at)

    def _observe_run(self, run: BatchRun, max_images: int) -> None:
        metrics, count = self._metrics, len(run.rows[0])
        metrics.copy_seconds.observe(run.copy_seconds)
        metrics.forward_seconds.observe(run.forward_seconds)
        metrics.batch_images.observe(count)
        metrics.batch_fill.observe(count / max_images)
        metrics.images.inc(count)
        metrics.activation_bytes.inc(sum(rows.nbytes for rows in run.rows))


def _rows(share: Share, pieces: list[_Piece], start: int) -> Iterator[FeatureRows]:
    """Yield the rows of a share, piece by piece; its first row is row `start` of the batch."""
    begin, stop = 0, start + len(share.images)
    if not pieces and share.images:  # nothing but holes
        yield FeatureRows([], [], skipped=_skipped(share.images))
    for run, overflows in pieces:
        end = begin + len(overflows)
        first, last = max(start, begin), min(stop, end)
        if first < last:
            yield _piece_rows(
                share.images[first - start : last - start],
                [array[first - begin : last - begin] for array in run.rows],
                overflows[first - begin : last - begin],
            )
        begin = end


def _piece_rows(
    images: Sequence[Prepared], arrays: list[Rows], overflows: Overflows
) -> FeatureRows:
    """Return the rows of images, without those of holes."""
    names = [image.name for image in images if isinstance(image, PreparedImage)]
    if len(names) < len(images):
        kept = [row for row, image in enumerate(images) if isinstance(image, PreparedImage)]
        arrays, overflows = [array[kept] for array in arrays], overflows[kept]
    return FeatureRows(names, arrays, int(overflows.sum()), _skipped(images))


def _skipped(images: Sequence[Prepared]) -> list[Hole]:
    """Return the holes of images that were sent, which their sender does not know of."""
    return [image for image in images if isinstance(image, Hole) and image.reason]


def _as_error(error: BaseException, forward: ForwardSpec) -> BaseException:
    if isinstance(error, OutOfDeviceMemoryError):
        reason, count = str(error).partition("\n")[0], forward.pass_size
        images = f"{count} images in a compiled pass" if count else "a single image"
        return DeviceMemoryError(
            f"the device has no room for the activations of {images}: {reason}"
        )
    return error
