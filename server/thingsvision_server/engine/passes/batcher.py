"""Merges the images that wait for one model, of any request, into batches and runs them.

There is no timer: a batch is chosen when a lane of the device is free, from the images that are
ready then, so batches grow under load. The stream of whom has used the device least leads the next
batch, among all models. A slow reader holds up only its own stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from math import inf
from typing import Any

import structlog

from ...access.person import caller_name
from ...backends.base import (
    BatchRun,
    InterruptibleModel,
    OutOfDeviceMemoryError,
    RunnableModel,
    cut,
)
from ...errors import DeviceMemoryError
from ...monitoring.metrics import Metrics
from ...monitoring.tracing import current_trace, span
from .choosing import Batch, BatchChooser
from .core_pool import Gap
from .cores import CorePlan
from .forward import ForwardSpec
from .lanes import DeviceLanes, Turn
from .limits import BatchLimits
from .pass_times import PassTimes
from .room import PassRoom, unlimited_room
from .shares import Piece, batch_inputs, share_rows
from .stream import BatchStream

_log = structlog.get_logger(__name__)

_LEFT_SECONDS = 5.0
"""How long passes run on when their readers have left, where they can be ended."""


class Batcher:
    """Runs the batches of one model on one device, from all open streams."""

    def __init__(
        self,
        model: RunnableModel,
        lanes: DeviceLanes,
        limits: BatchLimits,
        metrics: Metrics,
        *,
        room: PassRoom | None = None,
    ) -> None:
        self.limits = limits
        self._memory = room or unlimited_room()
        self._model = model
        self._lanes = lanes
        self._metrics = metrics
        self._max_passes = lanes.width if model.is_concurrent else 1
        # A program in another process may take for ever, and has threads of its own: others begin
        # beside it.
        self._keeps_cores = not model.is_foreign
        self._times = PassTimes()
        self._chooser = BatchChooser(lanes, self._times)
        self._streams = self._chooser.streams
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._passes: dict[asyncio.Task[None], Batch] = {}
        self._running: set[asyncio.Task[Any] | None] = set()
        """Those of the passes that still have their turn."""
        self._next: asyncio.Task[Turn] | None = None
        """Waits for cores."""

    @contextmanager
    def open(
        self, forward: ForwardSpec, batch_size: int, cores: CorePlan | None = None
    ) -> Iterator[BatchStream]:
        """Yield a stream of images for this pass, as `make_stream` does; its images are run."""
        stream = self.make_stream(forward, batch_size, cores)
        self.attach(stream)
        try:
            yield stream
        finally:
            self.close(stream)
            self.detach(stream)

    def make_stream(
        self, forward: ForwardSpec, batch_size: int, cores: CorePlan | None = None
    ) -> BatchStream:
        """Return a stream of images for this pass; batch_size 0 means as many as are ready.

        Without `cores`, a batch runs on the cores of a lane, or on all if nothing else is left.
        """
        most = self.limits.max_images(forward.cost)
        size = min(batch_size or most, most)
        person = caller_name()
        return BatchStream(
            forward,
            size,
            exact=batch_size > 0,
            cores=cores,
            account=self._lanes.order.open(person),
            trace=current_trace(),
            person=person,
            count_queued=self._count_queued,
            max_batches=self._max_passes + 1,
        )

    def _count_queued(self, stream: BatchStream, count: int) -> None:
        self._metrics.queue_depth.inc(count)
        self._metrics.people.add(stream.person, queued_count=count)
        if count < 0 or len(stream.ready) <= count:  # an image behind others leaves the oldest
            oldest = stream.ready[0].ready_at if stream.ready else None
            self._metrics.people.note_oldest(stream.person, stream, oldest)

    def attach(self, stream: BatchStream) -> None:
        """Run the images of a stream from now on."""
        stream.changed = self._changed
        self._streams.append(stream)
        self._changed.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="batcher")

    def detach(self, stream: BatchStream) -> None:
        """Run no more images of a stream, of which no pass runs, or which is closed."""
        self._streams.remove(stream)
        if self._next is not None and self._chooser.leader() is None:
            self._next.cancel()
        stream.changed = asyncio.Event()
        self._changed.set()

    def close(self, stream: BatchStream) -> None:
        """Drop the images of a stream that wait, and the rows of its passes that run."""
        self._metrics.cancelled_images.inc(stream.close())
        self._lanes.order.close(stream.account)
        self._end_left_passes_later()

    def _end_left_passes_later(self) -> None:
        """Look in some seconds whether passes still run whose readers have left."""
        if any(map(_is_left, self._passes.values())) and isinstance(
            self._model, InterruptibleModel
        ):
            asyncio.get_running_loop().call_later(_LEFT_SECONDS, self._end_left_passes)

    def _end_left_passes(self) -> None:
        """End the passes that run if all their readers have left; else look again later."""
        has_readers = not all(map(_is_left, self._passes.values()))
        if has_readers:
            self._end_left_passes_later()
        elif self._passes and isinstance(self._model, InterruptibleModel):
            _log.warning("ending passes that nobody waits for", passes=len(self._passes))
            asyncio.get_running_loop().run_in_executor(None, self._model.interrupt)

    async def drain(self) -> None:
        """Wait for passes that still run, including those whose readers have left."""
        while self._passes:
            await asyncio.wait(self._passes)

    async def _work(self) -> None:
        """Start passes until no stream is left."""
        while self._streams:
            if self._chooser.leader() is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            turn = await self._wait_for_turn()
            if turn is None:
                continue
            # Choose only now, so that images that became ready during the wait join the batch.
            leader = self._chooser.leader(turn.gap)
            if leader is None or not turn.use(leader.next_cores, keeps=self._keeps_cores):
                turn.end()
                continue
            batch = self._chooser.choose(leader, turn.gap, self._max_passes - len(self._running))
            if self._chooser.is_last(batch):
                turn.widen(keeps=self._keeps_cores)
            self._start(batch, turn)

    async def _wait_for_turn(self) -> Turn | None:
        """Wait for the cores of the next batch; None: the streams closed meanwhile."""
        waiting = asyncio.create_task(self._lanes.turn(self._wish), name="turn")
        self._next = waiting
        try:
            await asyncio.wait({waiting})
        finally:
            self._next = None
        return None if waiting.cancelled() else waiting.result()

    def _wish(self, gap: Gap) -> tuple[tuple[float, ...], int] | None:
        """Return rank and cores of the next batch in a gap; None: none, or enough passes run.

        It waits for its turn then already: asked only after a pass has ended, it would lose the
        lane to others each time, who may keep it for long.
        """
        if len(self._running) >= self._max_passes:
            return None
        leader = self._chooser.leader(gap)
        if leader is None:
            return None if gap.is_limited else ((inf,), 0)
        return self._chooser.rank(leader), leader.next_cores if self._keeps_cores else 0

    def _start(self, batch: Batch, turn: Turn) -> None:
        charged = self._charge(batch, is_lent=turn.gap.is_limited)
        turn.expect(charged * sum(len(share.images) for share in batch))
        running = asyncio.create_task(self._run(batch, turn, charged), name="pass")
        self._passes[running] = batch
        self._running.add(running)
        running.add_done_callback(partial(self._on_pass_end, batch))

    def _on_pass_end(self, batch: Batch, running: asyncio.Task[None]) -> None:
        """Let the next pass start; whoever waits for one that failed before it began is told."""
        self._passes.pop(running, None)
        self._running.discard(running)
        self._changed.set()
        error = None if running.cancelled() else running.exception()
        if error is not None:
            for share in batch:
                share.stream.deliver(share.place, error)

    async def _run(self, batch: Batch, turn: Turn, charged: float) -> None:
        """Run a batch, and deliver its rows, or its error, to the streams."""
        try:
            self._observe_wait(batch)
            inputs = batch_inputs([image for share in batch for image in share.images])
            result: list[Piece] | BaseException = []
            if inputs:
                with _span(batch):
                    result = await self._run_pass(inputs, batch[0].stream.forward, turn)
        finally:
            self._settle(batch, turn, charged)
            self._running.discard(asyncio.current_task())
            turn.end()
        if not isinstance(result, BaseException):
            self._deliver(batch, result)
            return
        for share in batch:
            share.stream.deliver(share.place, _as_error(result, share.stream.forward))

    async def _run_pass(
        self, inputs: list[Any], forward: ForwardSpec, turn: Turn
    ) -> list[Piece] | BaseException:
        """Run a pass; halve it while the device has no room. Return the rows, or the error."""
        runs: list[Piece] = []
        left = [inputs]
        while left:
            batch = left.pop(0)
            count = sum(map(len, batch))
            # A compiled pass has a fixed number of images.
            can_halve = count > 1 and not forward.pass_size
            needed_bytes = forward.cost.pass_bytes * max(count, forward.pass_size)
            async with self._memory.take(needed_bytes) as has_room:
                is_too_large = can_halve and not has_room
                if not is_too_large:
                    # Reassigning `run` frees a failed run, which holds the memory of its batch.
                    run = turn.run(partial(forward.run, self._model, batch))
                    await asyncio.wait({run})
                    is_out = isinstance(run.exception(), OutOfDeviceMemoryError)
                    is_too_large = can_halve and is_out
            if is_too_large:
                _log.warning("device out of memory, halving the batch", images=count)
                middle = count // 2
                left = [cut(batch, 0, middle), cut(batch, middle, count), *left]
            elif (error := run.exception()) is not None:
                return error
            else:
                runs.append(run.result())
        return runs

    def _deliver(self, batch: Batch, pieces: list[Piece]) -> None:
        start = 0
        for run, _ in pieces:
            self._observe_run(run, batch[0].stream.batch_size)
        for share in batch:
            stop = start + len(share.images)
            if not share.stream.closed:
                share.stream.forward_seconds += sum(run.forward_seconds for run, _ in pieces)
                share.stream.deliver(share.place, list(share_rows(share, pieces, start)))
            self._metrics.people.add(share.stream.person, image_count=len(share.images))
            start = stop

    def _charge(self, batch: Batch, *, is_lent: bool) -> float:
        """Charge the streams of a batch for the pass that begins; return the seconds per image.

        On cores that were lent it is nobody's turn: of whatever fits, somebody far ahead may lead,
        and who comes back must not be put behind them.
        """
        per_image = self._times.expect(sum(len(share.images) for share in batch))
        for number, share in enumerate(batch):
            seconds = per_image * len(share.images)
            self._lanes.order.begin(
                share.stream.account, seconds, leads=number == 0 and not is_lent
            )
        return per_image

    def _settle(self, batch: Batch, turn: Turn, charged: float) -> None:
        """Charge what a pass took beyond what was charged per image, each stream for its images."""
        count = sum(len(share.images) for share in batch)
        taken = turn.device_seconds / count
        if taken:
            self._times.observe(count, taken)
        for share in batch:
            more = (taken - charged) * len(share.images)
            self._lanes.order.end(share.stream.account, more)
            self._metrics.people.add(share.stream.person, device_seconds=taken * len(share.images))

    def _observe_wait(self, batch: Batch) -> None:
        now = time.monotonic()
        for share in batch:
            share.stream.wait_seconds += now - share.images[0].ready_at
            waits = [now - image.ready_at for image in share.images]
            for wait in waits:
                self._metrics.queue_wait_seconds.observe(wait)
            self._metrics.people.add(share.stream.person, wait_seconds=sum(waits))

    def _observe_run(self, run: BatchRun, max_images: int) -> None:
        metrics, count = self._metrics, len(run.rows[0])
        metrics.copy_seconds.observe(run.copy_seconds)
        metrics.forward_seconds.observe(run.forward_seconds)
        metrics.transfer_wait_seconds.observe(run.wait_seconds)
        metrics.batch_images.observe(count)
        metrics.batch_fill.observe(count / max_images)
        metrics.images.inc(count)
        metrics.activation_bytes.inc(sum(rows.nbytes for rows in run.rows))


def _span(batch: Batch) -> AbstractContextManager[None]:
    """Make a span of a pass, in the request that leads it, beside the others that share it."""
    leader, *others = (share.stream.trace for share in batch)
    count = sum(len(share.images) for share in batch)
    return span("forward pass", parent=leader, beside=others, images=count)


def _is_left(batch: Batch) -> bool:
    """Return whether nobody reads the rows of a batch any more."""
    return all(share.stream.closed for share in batch)


def _as_error(error: BaseException, forward: ForwardSpec) -> BaseException:
    if isinstance(error, OutOfDeviceMemoryError):
        reason, count = str(error).partition("\n")[0], forward.pass_size
        images = f"{count} images in a compiled pass" if count else "a single image"
        return DeviceMemoryError(
            f"the device has no room for the activations of {images}: {reason}"
        )
    return error
