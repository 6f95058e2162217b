"""Reads request streams: the header first and once, then numbered images or frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from thingsvision_proto.model_id import METADATA_KEY, model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..engine.images.server_images import SentItem
from ..errors import InvalidRequestError
from .messages.extraction import request_item


def check_model_metadata(context: grpc.aio.ServicerContext[Any, Any], spec: pb.ModelSpec) -> None:
    """Raise if a call was routed by another model than it asks for."""
    routed_by = dict(context.invocation_metadata() or ()).get(METADATA_KEY)
    wanted = model_id(spec)
    if routed_by not in (None, wanted):
        raise InvalidRequestError(
            f"the metadata `{METADATA_KEY}` must be {wanted!r}, the model in the message, "
            f"got {routed_by!r}",
            field=METADATA_KEY,
            subject=str(routed_by),
        )


class RequestStream:
    """The messages of one request, each a `oneof part` with a header."""

    def __init__(
        self, messages: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        self._messages = aiter(messages)
        self._sender = _host(context.peer())

    async def header(self) -> Any:
        """Return the header; raise if the stream does not begin with it."""
        message = await anext(self._messages, None)
        part = message.WhichOneof("part") if message is not None else None
        if message is None or part != "header":
            found = f"begins with {part!r}" if part else "is empty"
            sentence = f"the request stream {found}; its first message must be the header"
            raise InvalidRequestError(sentence, field="header")
        return message.header

    async def parts(self, kind: str) -> AsyncIterator[Any]:
        """Yield the parts after the header; raise if one is of another kind."""
        async for message in self._messages:
            part = message.WhichOneof("part")
            if part != kind:
                found = "a second header" if part == "header" else f"{part or 'nothing'!r}"
                sentence = f"every message after the header must be {kind!r}, got {found}"
                raise InvalidRequestError(sentence, field=part or kind)
            yield getattr(message, part)

    async def images(self) -> AsyncIterator[SentItem]:
        """Yield the images; raise if their numbers do not count from 0."""
        index = 0
        async for image in self.parts("image"):
            yield request_item(image, index, self._sender)
            index += 1

    async def frames(self, kind: str) -> AsyncIterator[bytes]:
        """Yield the bytes of Arrow frames; raise if their numbers do not count from 0."""
        index = 0
        async for frame in self.parts(kind):
            if frame.index != index:
                sentence = f"the next frame must have index {index}, got {frame.index}"
                raise InvalidRequestError(sentence, field=f"{kind}.index")
            yield frame.arrow_ipc
            index += 1


def _host(peer: str) -> str:
    """Return a peer's gRPC address without its port: `ipv4:10.0.0.7`."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def iterate_in_thread(
    frames: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop
) -> Iterator[bytes]:
    """Yield, in a thread, the frames of an event loop's iterator; each is read on demand."""

    async def next_frame() -> bytes | None:
        return await anext(frames, None)

    while (frame := asyncio.run_coroutine_threadsafe(next_frame(), loop).result()) is not None:
        yield frame
