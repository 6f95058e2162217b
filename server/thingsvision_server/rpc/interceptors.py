"""Gives every call an id, a log line and metrics, and turns errors into statuses."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import structlog
from google.rpc.status_pb2 import Status

from thingsvision_proto.frames import reply_writer
from thingsvision_proto.model_id import REQUEST_ID_KEY, VERSION_KEY

from ..errors import DrainingError, ThingsvisionError
from ..metrics import Metrics
from ..version import server_version
from .gate import Gate
from .status import DETAILS_KEY, internal_status, status_of
from .unknown_fields import check_known

_OUR_PACKAGE = "/thingsvision."
_log = structlog.get_logger("thingsvision.request")

_Behaviour = Callable[[Any, Any], Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass
class _Call:
    """One call as logs and metrics see it."""

    labels: tuple[str, str, str]
    request_id: str
    client: str
    client_version: str
    started: float
    received_count: int = 0
    sent_count: int = 0
    code: grpc.StatusCode = grpc.StatusCode.OK


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every method of this project's services."""

    def __init__(self, metrics: Metrics, gate: Gate) -> None:
        self._metrics = metrics
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the method's handler, wrapped in an id, a log line, metrics and statuses."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_OUR_PACKAGE):
            return handler
        return self._wrap(handler, method)

    def _wrap(self, handler: _Handler, method: str) -> _Handler:
        asked = "stream" if handler.request_streaming else "unary"
        answered = "stream" if handler.response_streaming else "unary"
        name = f"{asked}_{answered}"
        behaviour: _Behaviour = getattr(handler, name)
        _, service, rpc = method.split("/")
        labels = (name.replace("unary_stream", "server_stream"), service, rpc)
        wrap = self._wrap_streaming if handler.response_streaming else self._wrap_unary
        make: Callable[..., _Handler] = getattr(grpc, f"{name}_rpc_method_handler")
        write = handler.response_serializer and reply_writer(handler.response_serializer)
        return make(wrap(behaviour, labels), handler.request_deserializer, write)

    def _wrap_unary(self, behaviour: _Behaviour, labels: tuple[str, str, str]) -> _Behaviour:
        async def respond(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with self._call(labels, context) as call:
                response = await behaviour(_count_messages(request, call), context)
                call.sent_count += 1
                return response

        return respond

    def _wrap_streaming(self, behaviour: _Behaviour, labels: tuple[str, str, str]) -> _Behaviour:
        # Writes rather than yields: if the reader leaves in the middle of a message, the
        # method then ends at once, not when its generator is garbage-collected.
        async def respond(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            async with (
                self._call(labels, context) as call,
                aclosing(behaviour(_count_messages(request, call), context)) as responses,
            ):
                async for response in responses:
                    await _write(context, response)
                    call.sent_count += 1

        return respond

    @asynccontextmanager
    async def _call(
        self, labels: tuple[str, str, str], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[_Call]:
        given = dict(context.invocation_metadata() or ())
        request_id = str(given.get(REQUEST_ID_KEY) or uuid.uuid4().hex)[:64]
        version = str(given.get(VERSION_KEY) or "")[:64]
        call = _Call(
            labels,
            request_id,
            client=context.peer(),
            client_version=version,
            started=time.monotonic(),
        )
        structlog.contextvars.clear_contextvars()
        self._metrics.grpc_started.labels(*labels).inc()
        try:
            context.set_trailing_metadata(_trailers(request_id))
            with self._gate.enter():
                yield call
        except (asyncio.CancelledError, GeneratorExit):
            call.code = grpc.StatusCode.CANCELLED
            raise
        except ThingsvisionError as error:
            self._count_refusal(error)
            await self._abort(call, context, *status_of(error))
        # The edge: any other error is a bug of ours, reported without its internals.
        except Exception:
            _log.exception("internal error", id=request_id)
            await self._abort(call, context, *internal_status(request_id))
        finally:
            self._record(call)

    def _count_refusal(self, error: ThingsvisionError) -> None:
        structlog.contextvars.bind_contextvars(error=type(error).__name__, detail=str(error))
        if isinstance(error, DrainingError):
            self._metrics.rejected.labels("draining").inc()

    async def _abort(
        self,
        call: _Call,
        context: grpc.aio.ServicerContext[Any, Any],
        code: grpc.StatusCode,
        status: Status,
    ) -> None:
        call.code = code
        metadata = ((DETAILS_KEY, status.SerializeToString()), *_trailers(call.request_id))
        await context.abort(code, status.message, metadata)

    def _record(self, call: _Call) -> None:
        seconds, code = time.monotonic() - call.started, call.code.name
        metrics, labels = self._metrics, call.labels
        metrics.grpc_handled.labels(*labels, code).inc()
        metrics.grpc_seconds.labels(*labels, code).observe(seconds)
        metrics.grpc_received.labels(*labels).inc(call.received_count)
        metrics.grpc_sent.labels(*labels).inc(call.sent_count)
        _log.info(
            call.labels[2],
            id=call.request_id,
            client=call.client,
            client_version=call.client_version,
            status=code,
            seconds=round(seconds, 4),
        )


async def _write(context: grpc.aio.ServicerContext[Any, Any], response: Any) -> None:
    try:
        await context.write(response)
    except grpc.aio.InternalError:
        # gRPC raises this when the reader has left, if it comes before the cancellation.
        raise asyncio.CancelledError from None


def _trailers(request_id: str) -> tuple[tuple[str, str], ...]:
    return ((REQUEST_ID_KEY, request_id), (VERSION_KEY, server_version()))


def _count_messages(request: Any, call: _Call) -> Any:
    """Return a request, or its stream, with its messages counted and their fields checked."""
    if not hasattr(request, "__aiter__"):
        return _count(request, call)
    return _count_stream(request, call)


async def _count_stream(requests: AsyncIterator[Any], call: _Call) -> AsyncIterator[Any]:
    async for request in requests:
        yield _count(request, call)


def _count(message: Any, call: _Call) -> Any:
    call.received_count += 1
    check_known(message, call.client_version)
    return message
