"""Reads request streams: the header first and once, then numbered images or frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc

from thingsvision_proto.model_id import METADATA_KEY, model_id
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..engine.images.server_images import SentItem, sent_bytes
from ..errors import InvalidRequestError, StalledError
from ..monitoring.usage import UsageBook
from .entrance import person_of
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
        self,
        messages: AsyncIterator[Any],
        context: grpc.aio.ServicerContext[Any, Any],
        stall_seconds: float,
        people: UsageBook,
    ) -> None:
        self._people = people
        self._messages = aiter(messages)
        self._stall_seconds = stall_seconds
        self._stalled_seconds = 0.0
        """For which the client was waited for since that was counted."""
        self._person = person_of(context)
        self.sender = self._person.name
        """Who sends: the person's name, or the client's address without its port."""

    async def header(self) -> Any:
        """Return the header; raise if the stream does not begin with it."""
        try:
            message = await self._next()
        finally:
            self._count()
        part = message.WhichOneof("part") if message is not None else None
        if message is None or part != "header":
            found = f"begins with {part!r}" if part else "is empty"
            sentence = f"the request stream {found}; its first message must be the header"
            raise InvalidRequestError(sentence, field="header")
        return message.header

    async def _parts(self, kind: str) -> AsyncIterator[Any]:
        """Yield the parts after the header; raise if one is of another kind.

        A part's bytes are counted where they are read: each look at them in a message copies them.
        """
        try:
            while (message := await self._next()) is not None:
                part = message.WhichOneof("part")
                if part != kind:
                    found = "a second header" if part == "header" else f"{part or 'nothing'!r}"
                    sentence = f"every message after the header must be {kind!r}, got {found}"
                    raise InvalidRequestError(sentence, field=part or kind)
                yield getattr(message, part)
        finally:
            self._count()

    async def _next(self) -> Any:
        """Return the next message, None at the end; raise if the client sends nothing for long."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await anext(self._messages, None)
        except TimeoutError as error:
            sentence = (
                f"the client sent nothing for {self._stall_seconds:g} s while the server waited "
                "for its next message (--stall-seconds), so the call was ended: make it again"
            )
            raise StalledError(sentence) from error
        finally:
            self._stalled_seconds += time.monotonic() - started

    def _count(self, **amounts: float) -> None:
        """Count these amounts for the sender, and the seconds for which the client was waited for.

        Once per message: locks and dictionaries take a good part of the time of a small one.
        """
        stalled_seconds, self._stalled_seconds = self._stalled_seconds, 0.0
        self._people.add(self.sender, stalled_seconds=stalled_seconds, **amounts)

    async def images(self) -> AsyncIterator[SentItem]:
        """Yield the images; raise if their numbers do not count from 0."""
        index = 0
        async for image in self._parts("image"):
            item = request_item(image, index, self._person)
            self._count(received_bytes=sent_bytes(item))
            yield item
            index += 1

    async def frames(self, kind: str) -> AsyncIterator[bytes]:
        """Yield the bytes of Arrow frames; raise if their numbers do not count from 0."""
        index = 0
        async for frame in self._parts(kind):
            if frame.index != index:
                sentence = f"the next frame must have index {index}, got {frame.index}"
                raise InvalidRequestError(sentence, field=f"{kind}.index")
            arrow_ipc = frame.arrow_ipc
            self._count(received_bytes=len(arrow_ipc))
            yield arrow_ipc
            index += 1

    async def chunks(self, kind: str) -> AsyncIterator[bytes]:
        """Yield the pieces of a file."""
        async for chunk in self._parts(kind):
            self._count(received_bytes=len(chunk))
            yield chunk


OpenRequest: TypeAlias = Callable[
    [AsyncIterator[Any], grpc.aio.ServicerContext[Any, Any]], RequestStream
]
"""Returns the request of a call, given its messages and its context."""
