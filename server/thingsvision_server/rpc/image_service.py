"""The ImageService: finds and lists images that are on the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias

import grpc

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import ImageServiceServicer

from ..engine.images.server_images import ServerImages
from ..errors import InvalidRequestError

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_DIGEST_BYTES = 32


class ImageServicer(ImageServiceServicer):
    """Finds cached images, and lists the images below the image root."""

    def __init__(self, images: ServerImages) -> None:
        self._images = images

    async def FindImages(
        self, request: pb.FindImagesRequest, _context: _Context
    ) -> pb.FindImagesResponse:
        """Return the positions of images that the server has not cached."""
        for place, digest in enumerate(request.sha256):
            if len(digest) != _DIGEST_BYTES:
                sentence = f"a SHA-256 must have {_DIGEST_BYTES} bytes, got {len(digest)}"
                raise InvalidRequestError(sentence, field=f"sha256[{place}]")
        store = self._images.store
        # In a thread: the store blocks while another request writes a file.
        missing = await asyncio.to_thread(store.find_missing, request.sha256)
        return pb.FindImagesResponse(missing=missing, keeps_images=store.quota_bytes > 0)

    async def ListImages(
        self, request: pb.ListImagesRequest, _context: _Context
    ) -> AsyncGenerator[pb.ListImagesResponse]:
        """Stream the images of a folder."""
        names = await asyncio.to_thread(lambda: list(self._images.names(request.folder)))
        for name in names:
            yield pb.ListImagesResponse(server_path=name)
