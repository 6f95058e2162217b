"""The ImageService: which images lie on the server; knows no model."""

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
    """Finds kept images, and lists those of the image root."""

    def __init__(self, images: ServerImages) -> None:
        self._images = images

    async def FindImages(
        self, request: pb.FindImagesRequest, _context: _Context
    ) -> pb.FindImagesResponse:
        """Tell which images the server lacks."""
        for place, digest in enumerate(request.sha256):
            if len(digest) != _DIGEST_BYTES:
                sentence = f"a SHA-256 has {_DIGEST_BYTES} bytes, not {len(digest)}"
                raise InvalidRequestError(sentence, field=f"sha256[{place}]")
        store = self._images.store
        # In a thread: the store waits while another one writes a file.
        missing = await asyncio.to_thread(store.missing, request.sha256)
        return pb.FindImagesResponse(missing=missing, keeps_images=store.quota_bytes > 0)

    async def ListImages(
        self, request: pb.ListImagesRequest, _context: _Context
    ) -> AsyncGenerator[pb.ListImagesResponse]:
        """Stream the images of a folder."""
        names = await asyncio.to_thread(lambda: list(self._images.names(request.folder)))
        for name in names:
            yield pb.ListImagesResponse(server_path=name)
