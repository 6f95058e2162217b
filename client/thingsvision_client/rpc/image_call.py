"""A streaming call that uploads images, retried with full files if the server dropped some."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UnknownImageError
from .connection import Connection
from .image_cache import ImageCache
from .image_stream import ImageStream

if TYPE_CHECKING:  # it loads numpy
    from ..images.queue import ImageQueue

Result = TypeVar("Result")
Replies = Generator[Any, None, None]


@dataclass(frozen=True)
class ImageCall:
    """A method that takes `request` with the header, then with each image of a queue."""

    connection: Connection
    method: Any
    request: Callable[..., Any]
    header: Any
    model_id: str

    def open(self, queue: ImageQueue) -> tuple[Replies, deque[str]]:
        """Return the replies, and the names of the images sent that they have not answered yet.

        Nothing is sent before the first reply is asked for; closing the iterator ends the call.
        It raises ThingsvisionError. After an UnknownImageError of an image that was sent as a
        SHA-256, later calls send the files.
        """
        images = ImageStream(queue, self.connection.image_cache, self.model_id)
        return self._replies(images), images.unanswered

    def result(self, queue: ImageQueue, receive: Callable[[Replies, deque[str]], Result]) -> Result:
        """Return what `receive` makes of the replies and the unanswered names of `open`.

        It is called once more, with all files sent from the first on, if the server dropped an
        image that it had and the images can be read again. Raises ThingsvisionError.
        """
        cache: ImageCache | None = self.connection.image_cache
        while True:
            images = ImageStream(queue, cache, self.model_id)
            try:
                with closing(self._replies(images)) as replies:
                    return receive(replies, images.unanswered)
            except UnknownImageError:
                if not images.has_references or not queue.is_reiterable:
                    raise
            cache = None

    def _replies(self, images: ImageStream) -> Replies:
        caller = self.connection.caller
        try:
            yield from caller.exchange(self.method, self._requests(images), self.model_id)
        except UnknownImageError as error:
            if not images.has_references:
                raise
            self.connection.image_cache.switch_off()
            advice = "The server has dropped it since: repeat the call, which then sends files."
            raise error.with_text(advice) from error

    def _requests(self, images: ImageStream) -> Iterator[Any]:
        yield self.request(header=self.header)
        for image in images.messages():
            yield self.request(image=image)
