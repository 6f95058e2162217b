"""The ImageService: finds, lists and deletes images that are on the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import grpc
from structlog.contextvars import bind_contextvars

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import ImageServiceServicer

from ..access.person import caller
from ..engine.images.owning import CachedImage, OwnedImages
from ..engine.images.server_images import ServerImages
from ..errors import InvalidRequestError

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_DIGEST_BYTES = 32

_LISTED_IMAGES = 1000
"""Images in a message of a list."""


class ImageServicer(ImageServiceServicer):
    """Finds, lists and deletes cached images, and lists the images below the image root."""

    def __init__(self, images: ServerImages) -> None:
        self._images = images
        self._owned = OwnedImages(images.store)

    async def FindImages(
        self, request: pb.FindImagesRequest, _context: _Context
    ) -> pb.FindImagesResponse:
        """Return the positions of images that the server has not cached."""
        _check_digests(request.sha256)
        store = self._images.store
        # In a thread: the store blocks while another request writes a file.
        missing = await asyncio.to_thread(store.find_missing, request.sha256, caller())
        return pb.FindImagesResponse(missing=missing, keeps_images=store.quota_bytes > 0)

    async def ListImages(
        self, request: pb.ListImagesRequest, _context: _Context
    ) -> AsyncGenerator[pb.ListImagesResponse]:
        """Stream the images of a folder."""
        names = await asyncio.to_thread(self._names, request.folder)
        for name in names:
            yield pb.ListImagesResponse(server_path=name)

    async def ListCachedImages(
        self, _request: pb.ListCachedImagesRequest, _context: _Context
    ) -> AsyncGenerator[pb.ListCachedImagesResponse]:
        """Stream the cached images that the caller may see."""
        found = self._owned.images(caller())
        while images := await asyncio.to_thread(lambda: list(islice(found, _LISTED_IMAGES))):
            yield pb.ListCachedImagesResponse(images=map(_cached_image, images))

    async def DeleteCachedImages(
        self, request: pb.DeleteCachedImagesRequest, _context: _Context
    ) -> pb.DeleteCachedImagesResponse:
        """Delete cached images of the caller's, or, for an admin, of others."""
        _check_digests(request.sha256)
        if request.all == bool(request.sha256):
            sentence = "the images to delete must be named by `sha256`, or be `all`: one of the two"
            raise InvalidRequestError(sentence, field="sha256")
        if request.owner and not request.all:
            sentence = f"`owner` must be left out with `sha256`, got {request.owner!r}"
            raise InvalidRequestError(sentence, field="owner", subject=request.owner)
        delete = (
            partial(self._owned.delete_all, caller(), request.owner)
            if request.all
            else partial(self._owned.delete, list(request.sha256), caller())
        )
        count, freed_bytes = await asyncio.to_thread(delete)
        bind_contextvars(images=count, freed_bytes=freed_bytes, of=request.owner or caller().name)
        return pb.DeleteCachedImagesResponse(image_count=count, freed_bytes=freed_bytes)

    def _names(self, folder: str) -> list[str]:
        return list(self._images.names(folder, caller()))


def _check_digests(digests: Sequence[bytes]) -> None:
    for place, digest in enumerate(digests):
        if len(digest) != _DIGEST_BYTES:
            sentence = f"a SHA-256 must have {_DIGEST_BYTES} bytes, got {len(digest)}"
            raise InvalidRequestError(sentence, field=f"sha256[{place}]")


def _cached_image(image: CachedImage) -> pb.CachedImage:
    whose = pb.Ownership(owners=image.owners, shared=image.is_shared)
    return pb.CachedImage(sha256=image.sha256, size_bytes=image.size_bytes, ownership=whose)
