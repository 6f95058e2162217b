"""Guards the RPCs of other projects, health and reflection, by the same table of scopes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeAlias

import grpc

from ..access.scopes import OPEN_METHODS
from ..errors import ThingsvisionError
from .entrance import Entrance
from .gate import Gate
from .status import DETAILS_KEY, status_of

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def guard(handler: _Handler, method: str, entrance: Entrance, gate: Gate) -> _Handler:
    """Return the handler of a method, which refuses who may not call it.

    A stream, such as that of `Health.Watch`, ends when the server stops.
    """
    if method in OPEN_METHODS:
        return handler
    asked = "stream" if handler.request_streaming else "unary"
    answered = "stream" if handler.response_streaming else "unary"
    behaviour: Callable[..., Any] = getattr(handler, f"{asked}_{answered}")

    async def respond(requests: Any, context: _Context) -> Any:
        try:
            staying = gate.watch() if handler.response_streaming else nullcontext()
            with staying, entrance.admit(method, context):
                request = requests if handler.request_streaming else await anext(requests)
                return await _respond(behaviour(request, context), context)
        except ThingsvisionError as error:
            code, status = status_of(error)
            await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))

    make: Callable[..., _Handler] = getattr(grpc, f"stream_{answered}_rpc_method_handler")
    return make(respond, handler.request_deserializer, handler.response_serializer)


async def _respond(answer: Any, context: _Context) -> Any:
    """Return the answer of a method, or write the answers that it yields."""
    if not hasattr(answer, "__aiter__"):
        return await answer
    async for message in answer:
        await context.write(message)
    return None
