"""One call of a feature stream: for all images, or for the rest after the server dropped some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import (
    BadImage,
    MixedServersError,
    UnavailableError,
    UnknownImageError,
    WrongServerError,
)
from ..images.image import SentImage
from ..images.queue import ImageQueue, Reiterable
from ..values.cores import Cores
from ..values.servers import ANY, Aim, ServedRows, ServerFacts, join_ranges
from .connection import Connection
from .extract_call import check_header, make_call, rows_of
from .image_call import Replies
from .mixture import alike, compare_headers, compare_servers, facts_of, serving_servers
from .replies import Batch, Reply, check_names
from .split_batches import add_split
from .unanswered import Unanswered


@dataclass
class StreamPart:
    """A call with the images from the place `first` on, whose rows are wanted from `wanted` on.

    With a batch size, `first` is where the batch of the wanted row begins, so that its images have
    the same neighbours in their forward passes as before.
    """

    connection: Connection
    asked: pb.ExtractHeader
    queue: ImageQueue
    messages: Replies
    unanswered: Unanswered
    first: int = 0
    wanted: int = 0
    before: StreamPart | None = None
    """The part that ended because the server had dropped an image."""
    may_mix: bool = False
    """Whether rows may come from servers that compute other bits."""
    is_quiet: bool = False
    """Whether nothing is warned of: who reads the part does it."""
    aim: Aim = ANY
    reply: Reply | None = None
    mixture: str = ""
    """How the server differs from that of the first rows of the extraction."""
    _batches: Iterator[Batch] | None = field(default=None, repr=False)
    _server: ServerFacts | None = None

    def open(self, tell_wait: Callable[[pb.Waiting], None]) -> Reply:
        """Return the reply, whose header has been checked."""
        if self.reply is None:
            reply = Reply(self.messages, unanswered=self.unanswered, on_wait=tell_wait)
            check_header(self.asked, reply.header, warns=not self.is_quiet)
            self.reply = reply
        return self.reply

    def agreeing(self, tell_wait: Callable[[pb.Waiting], None]) -> StreamPart:
        """Return this part, or one of another server, that computes as the first rows were.

        Raises MixedServersError if there is no such server and they may not mix.
        """
        first = self.queue.computed_by
        if first is None:
            return self
        found = facts_of(self.open(tell_wait).header)
        try:
            self.mixture = compare_servers(first, found, may_mix=self.may_mix)
        except MixedServersError:
            part = self._moved(first, found, tell_wait)
            if part is None:
                raise
            return part
        return self

    def _moved(
        self, first: ServerFacts, refused: ServerFacts, tell_wait: Callable[[pb.Waiting], None]
    ) -> StreamPart | None:
        """Return the part at a server that computes as the first; None if there is none."""
        if not self.queue.is_reiterable:
            return None
        self.close()
        for server in alike(first, serving_servers(self.connection)):
            if server.address == refused.address:
                continue
            try:
                part = self._at(server.address, tell_wait)
            except UnavailableError:  # a server that died is announced for a while
                continue
            found = facts_of(part.open(tell_wait).header)
            if not first.differences(found):
                return part
            part.close()
        return None

    def _at(self, address: str, tell_wait: Callable[[pb.Waiting], None]) -> StreamPart:
        """Return the part at a server: through the gateway, or else directly."""
        for aim in (Aim(address), Aim(address, is_direct=True)):
            part = begin(
                self.connection, self.asked, replace(self.queue, aim=aim), may_mix=self.may_mix
            )
            try:
                part.open(tell_wait)
            except WrongServerError:
                part.close()
                if aim.is_direct:
                    raise
            except UnavailableError:
                part.close()
                raise
            else:
                break
        return part

    def next_batch(self) -> tuple[list[int], Batch] | None:
        """Return the next wanted rows of the open reply, and their places; None at the end."""
        if self._batches is None and self.reply is not None:
            self._check_alike(self.reply)
            self._batches = (
                check_names(self.reply.batches(), self.unanswered)
                if self.is_quiet
                else rows_of(self.reply, self.unanswered)
            )
        for names, rows in self._batches or ():
            places = [self.first + one for one in self.unanswered.last_places(len(names))]
            had = sum(place < self.wanted for place in places)
            if had < len(places):
                return places[had:], (names[had:], [column[had:] for column in rows])
        return None

    def sent_again(self, error: UnknownImageError) -> StreamPart:
        """Return a call that sends the files of all images whose rows are still wanted.

        Raises the error if the images can't be read again, or none was sent as a SHA-256.
        """
        if self.before is not None or not self.queue.is_reiterable:
            raise error
        self.close()
        wanted = self.unanswered.place
        first = wanted - wanted % (self.asked.batch_size or 1) if self.reply else 0
        rest = Reiterable(partial(_from_place, self.queue, first))
        count = None if self.queue.count is None else self.queue.count - first
        header = self._header_from(first)
        queue = replace(self.queue, images=rest, count=count)
        messages, unanswered = make_call(self.connection, header).open(queue, as_files=True)
        return replace(
            self,
            asked=header,
            queue=queue,
            messages=messages,
            unanswered=unanswered,
            first=first,
            wanted=wanted,
            before=self,
            reply=None,
            _batches=None,
            _server=None,
        )

    def _header_from(self, first: int) -> pb.ExtractHeader:
        """Return what is asked for from a place on: on as many cores as before."""
        header = pb.ExtractHeader()
        header.CopyFrom(self.asked)
        if first and self.reply is not None and header.batch_size:
            header.image_count = max(0, header.image_count - first)
            told = self.reply.header.provenance
            if told.HasField("cores"):
                cores = Cores(told.cores.count, told.cores.tail_start, told.cores.tail_count)
                header.cores.CopyFrom(pb.Cores(**vars(cores.from_place(first))))
        return header

    def _check_alike(self, reply: Reply) -> None:
        """Raise MixedServersError if rows would go on that another server computes otherwise."""
        if self.before is None or self.before.reply is None:
            return
        was, now = facts_of(self.before.reply.header), facts_of(reply.header)
        compare_headers(self.before.reply.header, reply.header, (was.name, now.name))
        self.mixture = compare_servers(was, now, may_mix=self.may_mix)

    def splits(self) -> list[pb.SplitBatch]:
        """Return the images whose batches were split, by their places in the stream."""
        found = [] if self.before is None else self.before.splits()
        for split in self.reply.splits if self.reply is not None else ():
            moved = pb.SplitBatch()
            moved.CopyFrom(split)
            moved.first_index += self.first
            add_split(found, moved)
        return found

    def skipped(self) -> tuple[BadImage, ...]:
        """Return the images without a row, by their places in the stream."""
        earlier = () if self.before is None else self.before.skipped()
        own = (replace(one, place=one.place + self.first) for one in self.unanswered.skipped())
        return (*(one for one in earlier if one.place < self.first), *own)

    def server_at(self, place: int) -> ServerFacts:
        """Return the server that computed the row at a place."""
        if self.before is not None and place < self.wanted:
            return self.before.server_at(place)
        if self.reply is None:
            return ServerFacts()
        if self._server is None:  # it is asked for at every row
            self._server = facts_of(self.reply.header)
        return self._server

    def servers(self) -> list[ServedRows]:
        """Return the servers of the rows, if they came by several calls."""
        if self.before is None or self.reply is None:
            return []
        rest = self.place_count - self.wanted
        before = ServedRows(0, self.wanted, self.before.server_at(0))
        return join_ranges([before, ServedRows(self.wanted, rest, self.server_at(self.wanted))])

    @property
    def overflow_count(self) -> int:
        """Values that became infinite, of a part that was read to its end."""
        before = 0 if self.before is None else self.before.overflow_count
        trailer = None if self.reply is None else self.reply.trailer
        return before + (0 if trailer is None else trailer.overflow_count)

    @property
    def place_count(self) -> int:
        """Number of images sent by now, skipped ones included."""
        return self.first + self.unanswered.sent_count

    def close(self) -> None:
        """End the call."""
        self.messages.close()
        if self.aim.is_direct:
            self.connection.close()


def begin(
    connection: Connection,
    header: pb.ExtractHeader,
    queue: ImageQueue,
    *,
    may_mix: bool = False,
    is_quiet: bool = False,
) -> StreamPart:
    """Return the call with all images. Nothing is sent before it is opened."""
    aim = queue.aim
    if aim.server:
        base = connection.to(aim.server) if aim.is_direct else connection
        connection = base.aimed(server=aim.server)
    messages, unanswered = make_call(connection, header).open(queue)
    return StreamPart(
        connection,
        header,
        queue,
        messages=messages,
        unanswered=unanswered,
        may_mix=may_mix,
        is_quiet=is_quiet,
        aim=aim,
    )


def _from_place(queue: ImageQueue, first: int) -> Iterator[SentImage]:
    return islice(iter(queue.images), first, None)
