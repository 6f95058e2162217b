"""A call that images go out with; made again, with their files, where the server lost kept ones."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import UnknownImageError
from ..images.queue import ImageQueue
from .call import Caller

Result = TypeVar("Result")
Replies = Generator[Any, None, None]


@dataclass(frozen=True)
class ImageCall:
    """A method that takes `request` with the header, then with each image of a queue."""

    caller: Caller
    method: Any
    request: Callable[..., Any]
    header: Any
    model_id: str

    def replies(self, queue: ImageQueue) -> Replies:
        """Yield the replies. Raises ThingsvisionError; closing the iterator ends the call.

        After an UnknownImageError of an image that the server kept, later calls send the files.
        """
        requests = queue.requests(self.request, self.header, self.model_id)
        try:
            yield from self.caller.exchange(self.method, requests, self.model_id)
        except UnknownImageError as error:
            if queue.kept is None or not queue.was_named:
                raise
            queue.kept.switch_off()
            fault = str(error).removesuffix(".")
            raise UnknownImageError(
                f"{fault}. The server lost it meanwhile: make the call again, which sends files.",
                request_id=error.request_id,
                field=error.field,
                subject=error.subject,
            ) from error

    def result(self, queue: ImageQueue, receive: Callable[[Replies, ImageQueue], Result]) -> Result:
        """Return what `receive` makes of the replies to the images of a queue.

        It gets them once more, from the first on, where the server lost an image that it kept and
        the images can be read again. Raises ThingsvisionError.
        """
        try:
            with closing(self.replies(queue)) as messages:
                return receive(messages, queue)
        except UnknownImageError:
            again = queue.with_files()
            if again is None:
                raise
        with closing(self.replies(again)) as messages:
            return receive(messages, again)
