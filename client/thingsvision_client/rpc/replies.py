"""Receives the reply stream of Extract or ComputeRDM: checks each row, fills arrays in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from zlib_ng.zlib_ng import crc32

from thingsvision_proto.frames import Frame
from thingsvision_proto.wire import FeatureReader, WireError

from ..arrays import Array, RowStore
from ..errors import ChecksumError, IncompleteReplyError
from .split_batches import add_split, check_splits
from .unanswered import Unanswered, note_skipped

Batch = tuple[list[str], list[Array]]
"""Names of images, and an array of rows x shape per column, in the order of the header."""


class Reply:
    """The messages of one reply: progress, a header, frames of Arrow, a trailer.

    `on_progress` and `on_wait` are called with messages of these kinds, which may come in between.
    Reading to the end proves it complete; else IncompleteReplyError or ChecksumError is raised.
    """

    def __init__(
        self,
        messages: Iterable[Any],
        on_progress: Callable[[Any], None] | None = None,
        unanswered: Unanswered | None = None,
        on_wait: Callable[[Any], None] | None = None,
    ) -> None:
        self.trailer: Any = None
        self.skipped_count = 0
        self.splits: list[Any] = []
        """Images whose batches were split, as far as is known by now."""
        self._unanswered = Unanswered() if unanswered is None else unanswered
        self.frame_count = self.byte_count = self.crc32 = 0
        told = {"progress": on_progress, "waiting": on_wait}
        self._parts = self._read_parts(messages, told)
        kind, header = next(self._parts, ("nothing", None))
        self.header: Any = header
        if kind != "header":
            raise IncompleteReplyError(f"The reply begins with {kind} instead of a header.")

    def batches(self) -> Iterator[Batch]:
        """Yield the rows as they arrive; they are read-only and share memory per batch."""
        frames = self._frames()
        try:
            reader = FeatureReader(frames)
            self._check_columns(reader)
            yield from reader
        except WireError as error:
            for _ in frames:  # an early end explains a broken stream better than Arrow
                pass
            self._check_trailer()
            raise IncompleteReplyError(f"The reply can't be read: {error}") from error
        for _ in frames:
            pass
        self._check_trailer()

    def _frames(self) -> Iterator[bytes | memoryview]:
        for kind, part in self._parts:
            if self.trailer is not None or kind not in ("frame", "trailer"):
                raise IncompleteReplyError(f"The reply has a {kind} in the wrong place: try again.")
            if kind == "trailer":
                self.trailer = part
                continue
            if part.index != self.frame_count:
                raise IncompleteReplyError(
                    f"Frame {self.frame_count} of the reply is missing: {part.index} came instead."
                )
            arrow_ipc = part.arrow_ipc  # a protobuf message copies it at each access
            self.frame_count += 1
            self.byte_count += len(arrow_ipc)
            self.crc32 = crc32(arrow_ipc, self.crc32)
            yield arrow_ipc

    def _check_columns(self, reader: FeatureReader) -> None:
        announced = [(entry.name, tuple(entry.shape)) for entry in self.header.columns]
        received = [(column.name, column.shape) for column in reader.columns]
        if announced != received:
            raise IncompleteReplyError(
                f"The reply announced the columns {announced} but has {received}."
            )

    def _check_trailer(self) -> None:
        if self.trailer is None:
            raise IncompleteReplyError(
                f"The reply ended after {self.frame_count} frames without its trailer: try again."
            )
        received = (self.frame_count, self.byte_count)
        sent = (self.trailer.frame_count, self.trailer.arrow_bytes)
        if received != sent:
            raise IncompleteReplyError(
                f"The reply has (frames, bytes) {received}, but the server sent {sent}: try again."
            )
        if self.crc32 != self.trailer.arrow_crc32:
            raise ChecksumError(
                "The reply was corrupted in transit (its CRC-32 differs): try again."
            )
        skipped = getattr(self.trailer, "skipped_count", self.skipped_count)
        if skipped != self.skipped_count:
            raise IncompleteReplyError(
                f"The reply names {self.skipped_count} skipped images, but the server skipped "
                f"{skipped}: try again."
            )

        check_splits(getattr(self.trailer, "split_batches", self.splits), self.splits)

    def _read_parts(
        self, messages: Iterable[Any], told: Mapping[str, Callable[[Any], None] | None]
    ) -> Iterator[tuple[str, Any]]:
        for message in messages:
            if isinstance(message, Frame):
                yield "frame", message
                continue
            kind = message.WhichOneof("part")
            if kind in told:
                if (tell := told[kind]) is not None:
                    tell(getattr(message, kind))
            elif kind == "skipped":
                self.skipped_count += note_skipped(message.skipped, self._unanswered)
            elif kind == "split_batch":
                add_split(self.splits, message.split_batch)
            elif kind is None:
                raise IncompleteReplyError("The reply has an unknown part: update this client.")
            else:
                yield kind, getattr(message, kind)


def check_names(batches: Iterable[Batch], unanswered: Unanswered) -> Iterator[Batch]:
    """Yield the batches as long as their names are the next of `unanswered`, which may grow.

    A name is removed when its row arrives, so a stream of any length is checked in flat memory.
    Raises IncompleteReplyError at the first row of another image, and at the end if rows are
    missing.
    """
    done = 0
    for names, rows in batches:
        for name in names:
            if unanswered.pop() != name:
                raise IncompleteReplyError(
                    f"Row {done} of the reply is for {name!r}, not for the image sent: try again."
                )
            done += 1
        yield names, rows
    if (missing := unanswered.pop()) is not None:
        raise IncompleteReplyError(
            f"The reply ended after {done} images; the row of {missing!r} is missing: try again."
        )


def collect(
    reply: Reply,
    batches: Iterable[Batch],
    expected_count: int | None,
    on_count: Callable[[int], None] | None = None,
) -> tuple[list[str], dict[str, Array]]:
    """Return all image names, and an array of images x shape per column of `reply`.

    `on_count` is called with the number of images that have arrived.
    """
    columns = reply.header.columns
    stores = [RowStore(tuple(c.shape), DTYPES[c.element_type], expected_count) for c in columns]
    images: list[str] = []
    for names, rows in batches:
        images.extend(names)
        for store, part in zip(stores, rows, strict=True):
            store.append(part)
        if on_count is not None:
            on_count(len(images))
    if reply.trailer.image_count != len(images):
        raise IncompleteReplyError(
            f"The reply has {len(images)} rows, but the server counted {reply.trailer.image_count}."
        )
    arrays = [store.finish() for store in stores]
    return images, {column.name: array for column, array in zip(columns, arrays, strict=True)}


DTYPES: dict[int, str] = {0: "float32", 1: "float32", 2: "float64", 3: "float16"}
"""numpy dtypes by the numbers of the contract's ElementType."""
