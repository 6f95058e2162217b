"""One extraction in parts of whole batches that several calls send at once; rows come in order."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from math import ceil, prod

import numpy as np

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.caller import warn_caller
from ..display.progress import say
from ..errors import BadImage, UnknownImageError
from ..images.queue import ImageQueue
from ..values.servers import ANY, Aim, ServedRows, ServerFacts, join_ranges
from .connection import Connection
from .extract_call import warn_of_losses
from .mixture import alike, facts_of, serving_servers
from .replies import DTYPES, Batch, Reply
from .shard_work import Finished, ShardPlan, Targets, Work
from .split_batches import add_split
from .stream_part import begin

AUTO = "auto"
_SHARD_BYTES = 32 * 1024 * 1024
_SHARD_IMAGES = 512
_SHARDS_PER_STREAM = 2
"""At least so many parts for each stream, if there are as many batches: no server waits long."""


@dataclass
class Shards:
    """An extraction in parts, with the methods of a StreamPart.

    `streams` is a number, or `auto` for as many as there are servers.
    """

    connection: Connection
    asked: pb.ExtractHeader
    queue: ImageQueue
    streams: int | str
    may_mix: bool = False
    mixture: str = ""
    aim: Aim = ANY
    timings: pb.Timings = field(default_factory=pb.Timings)
    _reply: Reply | None = None
    _work: Work | None = None
    _ready: deque[tuple[list[int], Batch]] = field(default_factory=deque)
    _done: list[Finished] = field(default_factory=list)
    _warned: set[object] = field(default_factory=set)
    _overflow_count: int = 0

    def open(self, tell_wait: Callable[[pb.Waiting], None]) -> Reply:
        """Return the reply to a call without images, which says what computes the features."""
        if self._reply is None:
            announced = begin(
                self.connection,
                self.asked,
                replace(self.queue, images=(), count=0),
                may_mix=self.may_mix,
            )
            try:
                announced.open(tell_wait)
                announced = announced.agreeing(tell_wait)
                self._reply = announced.open(tell_wait)
                self.aim, self.mixture = announced.aim, announced.mixture
            finally:
                announced.close()
        return self._reply

    def agreeing(self, _tell_wait: Callable[[pb.Waiting], None]) -> Shards:
        """Return this: each of its calls is compared with the first rows."""
        return self

    def next_batch(self) -> tuple[list[int], Batch] | None:
        """Return the next rows and their places; None at the end."""
        if self._work is None:
            self._work = self._start()
        while not self._ready:
            finished = self._work.next_finished()
            if finished is None:
                self._warn_at_end()
                return None
            self._take(finished)
        return self._ready.popleft()

    def _start(self) -> Work:
        header = self.open(_ignore).header
        first = self.queue.computed_by or facts_of(header)
        count, targets = self._find_targets(first)
        size = _shard_size(header, count, self.queue.count)
        plan = ShardPlan(self.asked, header, self.queue, first=first, size=size)
        plan.may_mix = self.may_mix
        # Its own channel: closing it ends calls that other threads wait for.
        work = Work(copy(self.connection), plan, targets, iter(self.queue.images), count=count)
        weakref.finalize(self, work.stop)
        work.start()
        return work

    def _find_targets(self, first: ServerFacts) -> tuple[int, Targets]:
        """Return the number of streams, and the servers that they may go to."""
        is_asked = self.streams == AUTO or not self.may_mix
        servers = serving_servers(self.connection) if is_asked else []
        fitting = servers if self.may_mix else alike(first, servers)
        count = max(1, len(fitting)) if self.streams == AUTO else int(self.streams)
        if len(fitting) == len(servers) and not self.aim.server:
            return count, Targets([ANY])
        is_direct = self.aim.is_direct
        named = [Aim(one.address, is_direct=is_direct) for one in fitting]
        if left_out := [one.address for one in servers if one not in fitting]:
            say(
                f"{len(left_out)} of {len(servers)} servers take no part, as they compute other "
                f"last bits than {first.name}: {', '.join(left_out)}."
            )
        return count, Targets(named or [self.aim])

    def _take(self, finished: Finished) -> None:
        """Make the rows of a part the next ones, and give its warnings."""
        self._ready.extend(finished.batches)
        finished.batches = []
        self._done.append(finished)
        self._overflow_count += finished.overflow_count
        for one in pb.Timings.DESCRIPTOR.fields:
            total = getattr(self.timings, one.name) + getattr(finished.timings, one.name)
            setattr(self.timings, one.name, total)
        for text, category in finished.warnings:
            key = text if category is UserWarning else category
            if key not in self._warned:
                self._warned.add(key)
                warn_caller(text, category)
        if finished.mixture and finished.mixture not in self._warned:
            self._warned.add(finished.mixture)
            say(finished.mixture)

    def _warn_at_end(self) -> None:
        size = 0 if self._reply is None else self._reply.header.batch_size
        warn_of_losses(self._overflow_count, self.splits(), size)

    def sent_again(self, error: UnknownImageError) -> Shards:
        """Raise the error: a part has sent its images again already."""
        raise error

    def splits(self) -> list[pb.SplitBatch]:
        """Return the images whose batches were split, by their places."""
        found: list[pb.SplitBatch] = []
        for part in self._done:
            for split in part.splits:
                moved = pb.SplitBatch()
                moved.CopyFrom(split)
                moved.first_index += part.first
                add_split(found, moved)
        return found

    def skipped(self) -> tuple[BadImage, ...]:
        """Return the images without a row, by their places."""
        return tuple(
            replace(one, place=one.place + part.first)
            for part in self._done
            for one in part.skipped
        )

    def servers(self) -> list[ServedRows]:
        """Return which server computed which rows."""
        return join_ranges(
            ServedRows(part.first, part.place_count, part.server) for part in self._done
        )

    def server_at(self, place: int) -> ServerFacts:
        """Return the server that computed the row at a place."""
        for part in reversed(self._done):
            if part.first <= place:
                return part.server
        return ServerFacts()

    @property
    def place_count(self) -> int:
        """Number of images whose rows came by now, skipped ones included."""
        return sum(part.place_count for part in self._done)

    def close(self) -> None:
        """End all calls."""
        if self._work is not None:
            self._work.stop()


def _ignore(_: pb.Waiting) -> None:
    """Take a message of a wait that is over."""


def _shard_size(header: pb.ExtractReplyHeader, streams: int, count: int | None) -> int:
    """Return the images of a part: whole batches, as many as fit into a bounded size."""
    batch = max(1, header.batch_size)
    row_bytes = sum(
        prod(column.shape) * np.dtype(DTYPES[column.element_type]).itemsize
        for column in header.columns
    )
    batches = min(_SHARD_BYTES // max(1, row_bytes * batch), _SHARD_IMAGES // batch)
    if count is not None:
        batches = min(batches, ceil(count / batch / (streams * _SHARDS_PER_STREAM)))
    return max(1, batches) * batch
