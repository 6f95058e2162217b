"""Chooses the images of a model's next batch among its streams."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from ..fairness.order import Rank
from .core_pool import ANY, Gap
from .lanes import DeviceLanes
from .pass_times import PassTimes
from .stream import BatchStream, Share

Batch = list[Share]

_SURE = 0.8
"""The part of a gap that is filled, as times are expectations."""


class BatchChooser:
    """Chooses among the streams of one model, in the order of their ranks."""

    def __init__(self, lanes: DeviceLanes, times: PassTimes) -> None:
        self.streams: list[BatchStream] = []
        self._lanes = lanes
        self._times = times

    def leader(self, gap: Gap = ANY) -> BatchStream | None:
        """Return the stream whose turn it is, of those with images to run in a gap, if any."""
        runnable = (one for one in self.streams if self._fitting_count(one, gap))
        return min(runnable, key=self.rank, default=None)

    def rank(self, stream: BatchStream) -> Rank:
        """Return the rank of a stream that has images to run."""
        return self._lanes.order.rank(stream.account)

    def choose(self, leader: BatchStream, gap: Gap, pass_count: int) -> Batch:
        """Take the next batch; the stream that leads it moves to the end of the queue.

        So many passes of the model may still begin now.
        """
        self.streams.remove(leader)
        self.streams.append(leader)
        streams = [leader, *self._riders(leader)]
        room = min(self._room(streams, pass_count), self._most_images(leader, gap))
        batch = []
        for stream in streams:
            count = min(stream.runnable_count, room)
            if count:
                batch.append(stream.take(count))
                room -= count
        return batch

    def is_last(self, batch: Batch) -> bool:
        """Tell whether nothing but this batch is left to do; false for batches of exact streams."""
        whole = all(share.stream.ended and not share.stream.exact for share in batch)
        return whole and not any(stream.ready for stream in self.streams)

    def _fitting_count(self, stream: BatchStream, gap: Gap) -> int:
        """Return how many images of a stream could run in a gap now."""
        count = stream.runnable_count
        if not count or not gap.is_limited:
            return count
        most = self._most_images(stream, gap)
        # A batch whose number of images is fixed can't be made smaller.
        least = max(count, stream.forward.pass_size) if _is_fixed(stream) else 1
        is_narrow = self._lanes.kept_cores(stream.next_cores) <= gap.cores
        return min(count, most) if is_narrow and least <= most else 0

    def _most_images(self, stream: BatchStream, gap: Gap) -> int:
        """Return how many images a batch that this stream leads may have in a gap."""
        if not gap.is_limited:
            return stream.batch_size
        seconds = _SURE * gap.seconds * self._lanes.share(self._lanes.lane_cores)
        return self._times.most_images(seconds, max(stream.batch_size, stream.forward.pass_size))

    def _room(self, streams: Sequence[BatchStream], pass_count: int) -> int:
        """Return how many images of streams go into a batch: their share if lanes are free."""
        size = streams[0].batch_size
        others = any(one.runnable_count for one in self.streams if one not in streams)
        if streams[0].exact or others or self._lanes.device != "cpu":
            return size
        lanes = min(1 + self._lanes.free_count, pass_count)
        return min(size, ceil(sum(one.runnable_count for one in streams) / lanes))

    def _riders(self, leader: BatchStream) -> list[BatchStream]:
        """Return the companions that may fill the batch up, in the order of their turns.

        While others wait, nobody is more than a batch ahead of whoever leads: a person with few
        images ready leads often, and would take along whoever has used the device most.
        """
        companions = self._companions(leader)
        others_run = any(
            one.runnable_count for one in self.streams if one not in (leader, *companions)
        )
        if not (others_run or self._lanes.is_wanted):
            return companions
        size, order = leader.batch_size, self._lanes.order
        most = self._times.expect(size) * size
        return [one for one in companions if order.lead(one.account, leader.account) <= most]

    def _companions(self, leader: BatchStream) -> list[BatchStream]:
        """Return the streams that may share a pass with this one, in the order of their turns."""
        companions = [
            stream
            for stream in self.streams
            if stream is not leader
            and stream.runnable_count
            and not (leader.exact or stream.exact)
            and stream.forward == leader.forward
        ]
        return sorted(companions, key=self.rank)


def _is_fixed(stream: BatchStream) -> bool:
    return stream.exact or bool(stream.forward.pass_size)
