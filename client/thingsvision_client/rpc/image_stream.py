"""The images of one call as they are sent, and the names that still await their rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import ImageError
from ..images.image import ImageContent
from .image_cache import HOLE, ImageCache, LoadedImage
from .unanswered import Unanswered

if TYPE_CHECKING:  # it loads numpy
    from ..images.queue import ImageQueue
    from .input_range import InputRange


class ImageStream:
    """Reads the images of a queue one by one as they are sent.

    `unanswered` has the names of the images that were read and await their rows. `cache` None
    sends all files. `skips_bad` has images that can't be read leave a hole.
    """

    def __init__(
        self,
        queue: ImageQueue,
        cache: ImageCache | None,
        model_id: str,
        *,
        skips_bad: bool = False,
    ) -> None:
        self.unanswered = Unanswered()
        self._skips_bad = skips_bad
        self.has_references = False
        self.watched: InputRange | None = None
        self._queue = queue
        self._model_id = model_id
        # A stream without an end may be slow: its images go out one by one.
        is_cacheable = queue.count is not None and queue.tensor_shape is None
        self._cache = cache if is_cacheable else None

    def messages(self) -> Iterator[pb.Image]:
        """Yield the images in order. Raises ImageError.

        `has_references` becomes True with the first one that is sent as a SHA-256.
        """
        if self._cache is None:
            yield from (image.to_message() for image in self._load_images())
            return
        for message in self._cache.messages(self._load_images(), self._model_id):
            self.has_references = self.has_references or bool(message.kept_sha256)
            yield message

    def _load_images(self) -> Iterator[LoadedImage]:
        shape = self._queue.tensor_shape
        for index, image in enumerate(self._queue.images):
            if image.shape != shape:
                found, first = _describe_shape(image.shape), _describe_shape(shape)
                raise image.error(f"is {found}, but the first is {first}: all must be alike")
            try:
                content = image.load()
            except ImageError as error:
                if not (self._skips_bad and image.may_be_bad):
                    raise
                self.unanswered.add_hole(image.name, image.fault_in(error))
                yield LoadedImage(index, _utf8(image.name), HOLE, ImageContent(b""))
                continue
            if self.watched is not None:
                self.watched.add(content.data)
            self.unanswered.add(image.name)
            yield LoadedImage(index, image.name, image.kind, content)


def _utf8(name: str) -> str:
    """Return a name that can be sent; that of a hole never comes back."""
    return name.encode(errors="replace").decode()


def _describe_shape(shape: tuple[int, ...] | None) -> str:
    return "a file" if shape is None else f"an array of {' x '.join(map(str, shape))}"
