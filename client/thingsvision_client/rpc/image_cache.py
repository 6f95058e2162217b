"""The server's cache of images: files that it already has are sent as a SHA-256."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from thingsvision_proto.model_id import ANY_MODEL
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import UnsupportedError
from ..images.image import ImageContent
from .call import Caller

_WINDOW_IMAGES = 64
_WINDOW_BYTES = 8 * 1024 * 1024

_WORTH_ASKING_BYTES = 256 * 1024
"""Sending fewer bytes takes no longer than asking."""


HOLE = "hole"
"""The kind of an image that can't be sent."""


@dataclass(frozen=True)
class LoadedImage:
    """An image of a call whose content was read. `kind` is a field of the contract's Image."""

    index: int
    name: str
    kind: str
    content: ImageContent

    @property
    def is_file(self) -> bool:
        """Whether the content is an image file, which a server may have."""
        return self.kind == "encoded"

    def to_message(self, *, keep: bool = False) -> pb.Image:
        """Return the message with the content, which the server is to cache if `keep`."""
        message = pb.Image(index=self.index, name=self.name)
        if self.kind == HOLE:
            message.hole = True
            return message
        setattr(message, self.kind, self.content.value)
        if keep:
            message.keep = True
        return message

    def to_reference(self) -> pb.Image:
        """Return the message with the SHA-256 in the place of the content."""
        return pb.Image(index=self.index, name=self.name, kept_sha256=self.content.sha256)


class ImageCache:
    """Asks the server which files it has, for a window of images at a time; it caches the rest."""

    def __init__(self, caller: Caller, method: Any) -> None:
        self._caller = caller
        self._method = method
        self._is_off = False

    def switch_off(self) -> None:
        """Have all later images sent: the server dropped a file that it said it had."""
        self._is_off = True

    def messages(
        self, images: Iterable[LoadedImage], model_id: str = ANY_MODEL
    ) -> Iterator[pb.Image]:
        """Yield the messages of the images, in their order. Raises ThingsvisionError.

        `model_id` is the id of the model of the call: the question goes to the same server.
        """
        window: list[LoadedImage] = []
        size = 0
        for image in images:
            window.append(image)
            size += len(image.content.data) if image.is_file else 0
            if len(window) == _WINDOW_IMAGES or size >= _WINDOW_BYTES:
                yield from self._window_messages(window, size, model_id)
                window, size = [], 0
        yield from self._window_messages(window, size, model_id)

    def _window_messages(
        self, window: list[LoadedImage], size: int, model_id: str
    ) -> Iterator[pb.Image]:
        missing = self._find_missing(window, size, model_id)
        for image in window:
            if missing is None or not image.is_file:
                yield image.to_message()
            elif image.index in missing:
                yield image.to_message(keep=True)
            else:
                yield image.to_reference()

    def _find_missing(
        self, window: list[LoadedImage], size: int, model_id: str
    ) -> frozenset[int] | None:
        """Return the indices of files that the server lacks; None if it has no cache to ask."""
        if self._is_off or size < _WORTH_ASKING_BYTES:
            return None
        files = [image for image in window if image.is_file]
        request = pb.FindImagesRequest(sha256=[image.content.sha256 for image in files])
        try:
            reply = self._caller.ask(self._method, request, model_id)
        except UnsupportedError:  # an older server
            self._is_off = True
            return None
        self._is_off = not reply.keeps_images
        return None if self._is_off else frozenset(files[place].index for place in reply.missing)
