"""Images go over the network once: what the server keeps is only named; decodes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from thingsvision_proto.model_id import ANY_MODEL
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import UnsupportedError
from .call import Caller

_WINDOW_IMAGES = 64
_WINDOW_BYTES = 8 * 1024 * 1024

_WORTH_ASKING_BYTES = 256 * 1024
"""Less is sent as soon as the question would be answered."""


class KeptImages:
    """Asks which files the server has, some at a time, and has it keep the others."""

    def __init__(self, caller: Caller, method: Any) -> None:
        self._caller = caller
        self._method = method
        self._is_off = False

    def switch_off(self) -> None:
        """Have all later images sent: the server said that it has one, and lost it."""
        self._is_off = True

    def sent(self, images: Iterable[pb.Image], model_id: str = ANY_MODEL) -> Iterator[pb.Image]:
        """Yield the images as they are to be sent, in their order. Raises ThingsvisionError.

        `model_id` is that of the model that they are for: the question goes where they go.
        """
        window: list[pb.Image] = []
        size = 0
        for image in images:
            window.append(image)
            size += len(image.encoded)
            if len(window) == _WINDOW_IMAGES or size >= _WINDOW_BYTES:
                yield from self._answered(window, size, model_id)
                window, size = [], 0
        yield from self._answered(window, size, model_id)

    def _answered(self, window: list[pb.Image], size: int, model_id: str) -> Iterable[pb.Image]:
        if self._is_off or size < _WORTH_ASKING_BYTES:
            return window
        digests = [hashlib.sha256(image.encoded).digest() for image in window]
        try:
            request = pb.FindImagesRequest(sha256=digests)
            reply = self._caller.ask(self._method, request, model_id)
        except UnsupportedError:  # an older server
            self._is_off = True
            return window
        self._is_off = not reply.keeps_images
        if self._is_off:
            return window
        missing = set(reply.missing)
        return [
            _to_keep(image) if place in missing else _named(image, digest)
            for place, (image, digest) in enumerate(zip(window, digests, strict=True))
        ]


def _to_keep(image: pb.Image) -> pb.Image:
    image.keep = True
    return image


def _named(image: pb.Image, sha256: bytes) -> pb.Image:
    return pb.Image(index=image.index, name=image.name, kept_sha256=sha256)
