"""Features of images as they arrive, in flat memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

from thingsvision_proto.model_id import model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..arrays import Array
from ..display.cards import Shown
from ..errors import BadImage, InvalidRequestError, UnknownImageError
from ..images.queue import ImageQueue
from ..values.options import ExtractOptions
from ..values.provenance import Provenance
from ..values.servers import Aim, ServerFacts
from .bad_images import STOP, prepare, settle
from .connection import Connection
from .extract_call import axes_of, provenance_of
from .mixture import facts_of
from .replies import DTYPES, Batch, Reply
from .shards import Shards
from .stream_part import StreamPart, begin
from .waits import stage_of

_ONE_PROCESS = (
    "its rows come over a call of that process. Give other processes the client, and call its "
    "`stream` there."
)


class FeatureStream(Shown):
    """Features as they arrive: an iterator of (image names, {module: rows x shape}).

    The arrays are read-only. Only a stream that was read to its end is proved complete. Nothing is
    sent before the first row, or an attribute, is requested; `close` ends the call.

    Attributes:
        places: Places of the rows returned last, in the list of images as given.
        on_wait: None, or a function that you set before the first row is requested. It is called
            with a text while the server has no memory for the model: place in the queue, and why.

    Example:
        ```python
        from thingsvision_client import Client

        stream = Client().stream("torchvision/alexnet", "photos", ["features.3", "features.10"])
        print(stream.row_shapes, stream.provenance.model)
        for names, features in stream:
            print(len(names), features["features.10"].mean())
        ```

    """

    def _facts(self) -> dict[str, Any]:
        return {"model": model_id(self._asked.model), "modules": list(self._asked.modules)}

    def __init__(
        self,
        part: StreamPart | Shards,
        asked: pb.ExtractHeader,
        on_error: str = STOP,
    ) -> None:
        self.places: list[int] = []
        self.on_wait: Callable[[str], object] | None = None
        self._on_error = on_error
        self._part = part
        self._asked = asked
        self._process = os.getpid()
        self._is_settled = self._is_compared = False

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"A FeatureStream can't be copied or pickled: {_ONE_PROCESS}")

    def __iter__(self) -> FeatureStream:
        return self

    def __next__(self) -> tuple[list[str], dict[str, Array]]:
        if self._process != os.getpid():
            raise InvalidRequestError(
                f"A FeatureStream must be read by the process that made it: {_ONE_PROCESS}"
            )
        try:
            modules = self.row_shapes
            batch = self._next_batch()
            if batch is None:
                self._end()
        except BaseException:
            self.close()
            raise
        if batch is None:
            self.close()
            raise StopIteration
        names, rows = batch
        return names, dict(zip(modules, rows, strict=True))

    def _next_batch(self) -> Batch | None:
        """Return the next rows; images that the server has dropped are sent again."""
        while True:
            self._open()
            try:
                found = self._part.next_batch()
            except UnknownImageError as error:
                self._part = self._part.sent_again(error)
                continue
            if found is None:
                return None
            self.places, batch = found
            return batch

    def _end(self) -> None:
        """Report the images that were skipped, once. Raises BadImagesError."""
        if not self._is_settled:
            self._is_settled = True
            skipped = self.skipped
            settle(skipped, self.place_count - len(skipped), self._on_error)

    def _open(self) -> Reply:
        # Not a cached_property: until Python 3.11 it has one lock for all streams, so that a stream
        # whose server has no memory for it would stop the streams of other threads.
        try:
            self._part.open(self._tell_wait)
        except UnknownImageError as error:
            self._part = self._part.sent_again(error)
        if not self._is_compared:
            self._part = self._part.agreeing(self._tell_wait)
            self._is_compared = True
        return self._part.open(self._tell_wait)

    def _tell_wait(self, waiting: pb.Waiting) -> None:
        if self.on_wait is not None:
            self.on_wait(stage_of(waiting, self._asked.model.name))

    @property
    def provenance(self) -> Provenance:
        """What computes the features: model, weights, preprocessing, device and versions."""
        return provenance_of(self._open(), self._part.splits(), self._part.servers())

    @property
    def server(self) -> ServerFacts:
        """The server that computes the features, or, with several streams, the first row."""
        return facts_of(self._open().header)

    def server_at(self, place: int) -> ServerFacts:
        """Return the server that computed the row at a place of the rows so far.

        Args:
            place: A place in the list of images as given.

        Returns:
            The server's address and what decides its last bits.

        Example:
            ```python
            from thingsvision_client import Client

            stream = Client().stream("torchvision/alexnet", "photos", "features.10", batch_size=2)
            for names, features in stream:
                print(names, stream.server_at(stream.places[0]).hardware)
            ```

        """
        return self._part.server_at(place)

    @property
    def aim(self) -> Aim:
        """The only server that may take the call, if one was chosen."""
        return self._part.aim

    @property
    def mixture(self) -> str:
        """How the server differs from that of the first rows of the extraction; else empty."""
        self._open()
        return self._part.mixture

    @property
    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's features, per requested module, in order."""
        return {column.name: tuple(column.shape) for column in self._open().header.columns}

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """What each axis of `row_shapes` is, as in Extraction."""
        return axes_of(self._open().header)

    @property
    def dtypes(self) -> dict[str, str]:
        """The numpy dtype of the values, per module."""
        columns = self._open().header.columns
        return {column.name: DTYPES[column.element_type] for column in columns}

    @property
    def batch_size(self) -> int:
        """Number of images in a forward pass; 0 means as many as are ready."""
        return int(self._open().header.batch_size)

    @property
    def skipped(self) -> tuple[BadImage, ...]:
        """The images without a row, as far as is known by now: place, name and reason of each."""
        return self._part.skipped()

    @property
    def place_count(self) -> int:
        """Number of images sent by now, skipped ones included."""
        return self._part.place_count

    def close(self) -> None:
        """End the call, whose other rows are then lost.

        Example:
            ```python
            from thingsvision_client import Client

            stream = Client().stream("torchvision/alexnet", "photos", "features.10", batch_size=1)
            names, features = next(stream)
            stream.close()
            print(names)
            ```

        """
        self._part.close()


def stream(
    connection: Connection,
    header: pb.ExtractHeader,
    queue: ImageQueue,
    *,
    options: ExtractOptions,
    on_error: str = STOP,
) -> FeatureStream:
    """Return the features of all images as they arrive. Its methods raise ThingsvisionError.

    `on_error` is as in `bad_images`.
    """
    queue = prepare(header, queue, on_error)
    may_mix = options.allow_mixed or not options.is_exact
    part: StreamPart | Shards
    if options.streams == 1:
        part = begin(connection, header, queue, may_mix=may_mix)
    else:
        part = Shards(connection, header, queue, options.streams, may_mix=may_mix)
    return FeatureStream(part, header, on_error)
