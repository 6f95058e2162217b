"""The threads that send the parts of one extraction, a few ahead of who reads their rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.caller import Held, hold_warnings
from ..errors import (
    BadImage,
    LeaseLostError,
    MixedServersError,
    StalledError,
    StoppedError,
    UnavailableError,
    UnknownImageError,
    WrongServerError,
)
from ..images.image import SentImage
from ..images.queue import ImageQueue
from ..values.cores import Cores
from ..values.servers import Aim, ServerFacts
from .connection import Connection
from .mixture import alike, compare_headers, compare_servers, facts_of, serving_servers
from .replies import Batch
from .stream_part import StreamPart, begin

_AHEAD = 2
"""So many parts for each stream are sent or wait to be read."""

_REPEATS = 1
_REPEATS_OF_PATIENCE = 3
"""How often a part is sent again: after a loss, or because the server had waited for it."""

_MOST_LOST_SERVERS = 2


@dataclass
class Finished:
    """A part whose rows have all come; in `skipped` and `splits`, its first image has place 0."""

    first: int
    place_count: int
    batches: list[tuple[list[int], Batch]]
    skipped: tuple[BadImage, ...]
    splits: list[pb.SplitBatch]
    server: ServerFacts
    overflow_count: int
    timings: pb.Timings
    mixture: str = ""
    warnings: Held = field(default_factory=list)


@dataclass
class ShardPlan:
    """How an extraction is divided, and what all parts must have in common.

    `told` is the header of the reply to a call for all images: its cores are those of every part.
    `first` is the server that computed the first rows. A part has `size` images.
    """

    asked: pb.ExtractHeader
    told: pb.ExtractReplyHeader
    queue: ImageQueue
    first: ServerFacts
    size: int
    may_mix: bool = False

    def request(self, first: int, images: list[SentImage]) -> tuple[pb.ExtractHeader, ImageQueue]:
        """Return the header and the images of the part that begins at a place."""
        header = pb.ExtractHeader()
        header.CopyFrom(self.asked)
        if header.batch_size:
            header.batch_size = self.told.batch_size
            header.image_count = len(images)
        provenance = self.told.provenance
        if provenance.HasField("cores"):
            told = provenance.cores
            cores = Cores(told.count, told.tail_start, told.tail_count).from_place(first)
            header.cores.CopyFrom(pb.Cores(**vars(cores)))
        return header, ImageQueue(images, len(images), self.queue.tensor_shape)

    def check(self, header: pb.ExtractReplyHeader) -> str:
        """Return how the server of a reply differs. Raises MixedServersError."""
        found = facts_of(header)
        text = compare_servers(self.first, found, may_mix=self.may_mix)
        compare_headers(self.told, header, (self.first.name, found.name))
        return text


class Targets:
    """The servers that parts may go to, in turn. Threads share it."""

    def __init__(self, aims: list[Aim]) -> None:
        self._aims = aims
        self._refused: set[str] = set()
        self._lock = threading.Lock()

    def pick(self, number: int) -> Aim:
        """Return the server for a part."""
        with self._lock:
            return self._aims[number % len(self._aims)]

    def drop(self, aim: Aim) -> bool:
        """Leave out a server that is gone; False if there is no other."""
        with self._lock:
            left = [one for one in self._aims if one != aim]
            self._aims = left or self._aims
            return bool(aim.server and left)

    def call_directly(self) -> None:
        """Call servers by their own addresses: there is no gateway that knows them."""
        with self._lock:
            self._aims = [replace(one, is_direct=bool(one.server)) for one in self._aims]

    def name(self, addresses: list[str], refused: str) -> bool:
        """Go on with named servers, without one that was refused; False if there are none."""
        with self._lock:
            self._refused.add(refused)
            is_direct = any(one.is_direct for one in self._aims)
            left = [Aim(one, is_direct) for one in addresses if one not in self._refused]
            self._aims = left or self._aims
            return bool(left)


class Work:
    """Sends the parts of an extraction in `count` threads, and keeps their rows until they are due.

    Holds the rows of a few parts at most: parts are sent as those before them are read.
    """

    def __init__(
        self,
        connection: Connection,
        plan: ShardPlan,
        targets: Targets,
        images: Iterator[SentImage],
        *,
        count: int,
    ) -> None:
        self.taken = 0
        self._connection = connection
        self._plan = plan
        self._targets = targets
        self._images = images
        self._count = count
        self._place = self._read_count = 0
        self._is_over = self._is_stopped = False
        self._finished: dict[int, Finished | BaseException] = {}
        self._direct: dict[str, Connection] = {}
        self._changed = threading.Condition()
        self._dealing = threading.Lock()

    def start(self) -> None:
        """Start the threads."""
        for number in range(self._count):
            run = copy_context().run  # a trace of the caller's has these calls, too
            threading.Thread(
                target=run, args=(self._run,), name=f"shards-{number}", daemon=True
            ).start()

    def next_finished(self) -> Finished | None:
        """Wait for the next part in order; None after the last. Raises what ended it."""
        with self._changed:
            while self._read_count not in self._finished:
                if self._is_stopped or (self._is_over and self._read_count >= self.taken):
                    return None
                self._changed.wait()
            found = self._finished.pop(self._read_count)
            self._read_count += 1
            self._changed.notify_all()
        if isinstance(found, BaseException):
            raise found
        return found

    def stop(self) -> None:
        """End all calls and threads."""
        with self._changed:
            if self._is_stopped:
                return
            self._is_stopped = self._is_over = True
            self._finished.clear()
            connections = [self._connection, *self._direct.values()]
            self._changed.notify_all()
        for connection in connections:
            connection.close()

    def _run(self) -> None:
        while (dealt := self._deal()) is not None:
            number, first, images = dealt
            try:
                with hold_warnings() as held:
                    found: Finished | BaseException = self._extract(number, first, images)
                if isinstance(found, Finished):
                    found.warnings = held
            except BaseException as error:
                found = error
            self._finish(number, found)

    def _finish(self, number: int, found: Finished | BaseException) -> None:
        with self._changed:
            if not self._is_stopped:
                self._finished[number] = found
            self._is_over = self._is_over or isinstance(found, BaseException)
            self._changed.notify_all()

    def _deal(self) -> tuple[int, int, list[SentImage]] | None:
        """Return the number, the first place and the images of the next part; None at the end."""
        with self._dealing:
            with self._changed:
                while not self._is_over and self.taken - self._read_count >= self._most_ahead:
                    self._changed.wait()
                if self._is_over:
                    return None
            try:
                images = list(islice(self._images, self._plan.size))
            except BaseException as error:
                number, self.taken = self.taken, self.taken + 1
                self._finish(number, error)
                return None
            with self._changed:
                number, first = self.taken, self._place
                self._place += len(images)
                self.taken += bool(images)
                self._is_over = self._is_over or len(images) < self._plan.size
                self._changed.notify_all()
            return (number, first, images) if images else None

    @property
    def _most_ahead(self) -> int:
        return _AHEAD * self._count

    def _extract(self, number: int, first: int, images: list[SentImage]) -> Finished:
        """Return the rows of a part; it is sent again if that may help."""
        header, queue = self._plan.request(first, images)
        lost_count = repeats = 0
        while True:
            aim = self._targets.pick(number + repeats)
            connection = self._aimed(aim, number, lost_count)
            part = begin(connection, header, queue, may_mix=self._plan.may_mix, is_quiet=True)
            try:
                return self._read(part, first)
            except WrongServerError:
                if aim.is_direct:
                    raise
                self._targets.call_directly()
                continue
            except MixedServersError:
                if repeats >= _REPEATS_OF_PATIENCE or not self._find_others(part):
                    raise
            except UnavailableError as error:
                lost_count = error.lost_servers
                if self._is_stopped or lost_count >= _MOST_LOST_SERVERS:
                    raise
                # A server that died is announced for a while.
                if self._targets.drop(aim) and not error.reply_had_begun:
                    continue
                waited = isinstance(error, (StalledError, LeaseLostError))
                if repeats >= (_REPEATS_OF_PATIENCE if waited else _REPEATS):
                    raise
            finally:
                part.close()
            repeats += 1

    def _read(self, part: StreamPart, first: int) -> Finished:
        """Return all rows of a part, which sends images again that the server has dropped."""
        batches: list[tuple[list[int], Batch]] = []
        mixture = ""
        while True:
            try:
                reply = part.open(_ignore)
                mixture = mixture or self._plan.check(reply.header)
                found = part.next_batch()
            except UnknownImageError as error:
                part = part.sent_again(error)
                continue
            if found is None:
                break
            places, rows = found
            batches.append(([first + place for place in places], rows))
        return Finished(
            first=first,
            place_count=part.place_count,
            batches=batches,
            skipped=part.skipped(),
            splits=part.splits(),
            server=facts_of(reply.header),
            overflow_count=part.overflow_count,
            timings=reply.trailer.timings,
            mixture=mixture,
        )

    def _aimed(self, aim: Aim, number: int, lost_count: int) -> Connection:
        """Return the connection for a part, to the server that may take it."""
        base = self._connection
        if aim.is_direct:
            with self._changed:
                if self._is_stopped:
                    raise StoppedError("The extraction was ended.")
                if aim.server not in self._direct:
                    self._direct[aim.server] = base.to(aim.server)
                base = self._direct[aim.server]
        return base.aimed(server=aim.server, shard=str(number), lost_servers=lost_count)

    def _find_others(self, part: StreamPart) -> bool:
        """Look for servers that compute as the first, as a part met another."""
        refused = "" if part.reply is None else part.reply.header.server.address
        found = alike(self._plan.first, serving_servers(self._connection))
        return bool(refused) and self._targets.name([one.address for one in found], refused)


def _ignore(_: Any) -> None:
    """Take what a server says of a wait: rows of other parts come meanwhile."""
