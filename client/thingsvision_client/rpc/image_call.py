"""A streaming call that uploads images, retried with full files if the server dropped some."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import UnknownImageError
from .connection import Connection
from .image_cache import ImageCache
from .image_stream import ImageStream
from .input_range import watch
from .unanswered import Unanswered

if TYPE_CHECKING:  # it loads numpy
    from ..images.queue import ImageQueue

Result = TypeVar("Result")
Replies = Generator[Any, None, None]


@dataclass(frozen=True)
class ImageCall:
    """A method that takes `request` with the header, then with each image of a queue.

    `skips_bad` has images that can't be read leave a hole.
    """

    connection: Connection
    method: Any
    request: Callable[..., Any]
    header: Any
    model_id: str
    skips_bad: bool = False

    def open(self, queue: ImageQueue, *, as_files: bool = False) -> tuple[Replies, Unanswered]:
        """Return the replies, and the images sent that they have not answered yet.

        Nothing is sent before the first reply is asked for; closing the iterator ends the call.
        It raises ThingsvisionError. After an UnknownImageError of an image that was sent as a
        SHA-256, call it once more with `as_files`; if the images can't be read again, later calls
        send the files.
        """
        images = self._images(queue, None if as_files else self.connection.image_cache)
        return self._replies(images, queue), images.unanswered

    def result(self, queue: ImageQueue, receive: Callable[[Replies, Unanswered], Result]) -> Result:
        """Return what `receive` makes of the replies and the unanswered images of `open`.

        It is called once more, with all files sent from the first on, if the server dropped an
        image that it had and the images can be read again. Raises ThingsvisionError.
        """
        cache: ImageCache | None = self.connection.image_cache
        while True:
            images = self._images(queue, cache)
            try:
                with closing(self._replies(images, queue)) as replies:
                    return receive(replies, images.unanswered)
            except UnknownImageError:
                if not images.has_references or not queue.is_reiterable:
                    raise
            cache = None

    def _images(self, queue: ImageQueue, cache: ImageCache | None) -> ImageStream:
        return ImageStream(queue, cache, self.model_id, skips_bad=self.skips_bad)

    def _replies(self, images: ImageStream, queue: ImageQueue) -> Replies:
        caller = self.connection.caller
        images.watched = watch(self.connection, self._model, queue)
        try:
            with closing(
                caller.exchange(self.method, self._requests(images), self.model_id)
            ) as replies:
                for reply in replies:
                    if images.watched is not None:
                        images.watched.warn()
                    yield reply
        except UnknownImageError as error:
            if not images.has_references or queue.is_reiterable:  # who called sends them again
                raise
            self.connection.image_cache.switch_off()
            advice = "The server has dropped it since: repeat the call, which then sends files."
            raise error.with_text(advice) from error

    @property
    def _model(self) -> pb.ModelSpec:
        header = self.header
        has_own = "model" in header.DESCRIPTOR.fields_by_name
        spec: pb.ModelSpec = header.model if has_own else header.extraction.model
        return spec

    def _requests(self, images: ImageStream) -> Iterator[Any]:
        yield self.request(header=self.header)
        for image in images.messages():
            yield self.request(image=image)
