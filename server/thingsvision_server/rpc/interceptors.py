"""Gives every call an id, a person, a log line and metrics, and turns errors into statuses."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import grpc
import structlog
from google.rpc.status_pb2 import Status

from thingsvision_proto.frames import reply_writer
from thingsvision_proto.model_id import REQUEST_ID_KEY, SERVER_KEY, VERSION_KEY, marked_server

from ..cluster.membership import Membership
from ..engine.device_watch import DeviceWatch
from ..errors import DeviceLostError, DrainingError, InvalidRequestError, ThingsvisionError
from ..monitoring.metrics import Metrics
from ..monitoring.tracing import received_trace, span
from ..shortages import shortage_behind
from ..version import server_version
from . import even_answers
from .call_records import Call, CallRecords
from .entrance import Entrance
from .foreign import guard
from .gate import Gate
from .person_limits import PersonLimits
from .private_models import PrivateModels
from .status import DETAILS_KEY, internal_status, status_of
from .unknown_fields import check_known
from .unparsable import Unparsable, message_reader

_OUR_PACKAGE = "/thingsvision."
_log = structlog.get_logger("thingsvision.request")

_Behaviour = Callable[[Any, Any], Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Take: TypeAlias = "Callable[[AsyncIterator[Any], Call], Awaitable[Any]]"
"""Takes what a method is called with from the stream of requests."""


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every method of this project's services, and guards all others."""

    def __init__(
        self,
        metrics: Metrics,
        gate: Gate,
        watch: DeviceWatch,
        entrance: Entrance,
        limits: PersonLimits,
        membership: Membership,
        private: PrivateModels,
    ) -> None:
        self._records = CallRecords(metrics, entrance.audit)
        self._gate = gate
        self._entrance = entrance
        self._watch = watch
        self._limits = limits
        self._membership = membership
        self._private = private

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the method's handler, wrapped in an id, a log line, metrics and statuses."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return handler
        if not method.startswith(_OUR_PACKAGE):
            return guard(handler, method, self._entrance, self._gate)
        return self._wrap(handler, method)

    def _wrap(self, handler: _Handler, method: str) -> _Handler:
        asked = "stream" if handler.request_streaming else "unary"
        answered = "stream" if handler.response_streaming else "unary"
        name = f"{asked}_{answered}"
        behaviour: _Behaviour = getattr(handler, name)
        _, service, rpc = method.split("/")
        labels = (name.replace("unary_stream", "server_stream"), service, rpc)
        wrap = self._wrap_streaming if handler.response_streaming else self._wrap_unary
        # Requests are read as streams: nothing is read of a call before it is let in.
        make: Callable[..., _Handler] = getattr(grpc, f"stream_{answered}_rpc_method_handler")
        write = handler.response_serializer and reply_writer(handler.response_serializer)
        read = message_reader(handler.request_deserializer)
        take = _count_stream if handler.request_streaming else _take_only
        return make(_let_go(wrap(behaviour, labels, take)), read, write)

    def _wrap_unary(
        self, behaviour: _Behaviour, labels: tuple[str, str, str], take: _Take
    ) -> _Behaviour:
        async def respond(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with self._call(labels, context) as call:
                response = await behaviour(await take(requests, call), context)
                await self._hide_others(call, response)
                self._records.add_reply(call, response, 0.0)
                return response

        return respond

    def _wrap_streaming(
        self, behaviour: _Behaviour, labels: tuple[str, str, str], take: _Take
    ) -> _Behaviour:
        # Writes rather than yields: if the reader leaves in the middle of a message, the
        # method then ends at once, not when its generator is garbage-collected.
        async def respond(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            async with self._call(labels, context) as call:
                request = await take(requests, call)
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        await self._hide_others(call, response)
                        began = time.monotonic()
                        await _write(context, response)
                        self._records.add_reply(call, response, time.monotonic() - began)

        return respond

    @asynccontextmanager
    async def _call(
        self, labels: tuple[str, str, str], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Call]:
        given = dict(context.invocation_metadata() or ())
        call = Call(
            labels,
            request_id=str(given.get(REQUEST_ID_KEY) or uuid.uuid4().hex)[:64],
            client=self._entrance.client_of(context),
            client_version=str(given.get(VERSION_KEY) or "")[:64],
            started=time.monotonic(),
        )
        self._records.begin(call)
        try:
            context.set_trailing_metadata(_trailers(call.request_id))
            with self._let_in(call, given, context):
                yield call
        except (asyncio.CancelledError, GeneratorExit):
            call.code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            status = await self._status_of(call, error)
            if even_answers.may_tell(error, call.person):
                call.code = status[0]
                await even_answers.wait_for_step(call.started)
            await self._abort(call, context, *status)
        finally:
            self._records.end(call)

    @contextmanager
    def _let_in(
        self,
        call: Call,
        given: Mapping[str, str | bytes],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Iterator[None]:
        """Check who calls, whom, and what that person may do now; raise if it is refused."""
        kind, service, rpc = call.labels
        method = f"{service}/{rpc}"
        with (
            span(method, parent=received_trace(given), request_id=call.request_id),
            self._gate.enter(call),
            self._entrance.admit(f"/{method}", context) as person,
        ):
            call.person = person
            self._check_destination(given)
            with (
                self._limits.enter(person.name, is_stream=kind.startswith("stream")),
                self._records.count_running(person.name),
            ):
                yield

    async def _status_of(self, call: Call, error: Exception) -> tuple[grpc.StatusCode, Status]:
        """Return how a call ends that fails, and log what its caller is not told."""
        known = self._device_error(error) or shortage_behind(error)
        if isinstance(error, ThingsvisionError):
            known = known or error
        # The edge: any other error is a bug of ours, reported without its internals.
        elif known is None or isinstance(known, DeviceLostError):
            _log.exception("internal error", id=call.request_id)
            return status_of(known) if known else internal_status(call.request_id)
        else:
            _log.warning("a call fails for lack of something", id=call.request_id, exc_info=error)
        self._records.add_refusal(call, known)
        if call.person is not None:
            known = await self._private.hide_in_error(known, call.person)
        return status_of(known)

    def _check_destination(self, given: Mapping[str, str | bytes]) -> None:
        """Raise if the call is for another server of the cluster."""
        if mark := given.get(SERVER_KEY):
            try:
                address = marked_server(str(mark))
            except ValueError as error:
                sentence = f"the metadata `{SERVER_KEY}` is wrong: {error}"
                raise InvalidRequestError(sentence, field=SERVER_KEY) from error
            self._membership.check_destination(address)

    async def _hide_others(self, call: Call, response: Any) -> None:
        if call.person is not None and not isinstance(response, bytes):  # bytes are frames of rows
            await self._private.hide_in_reply(response, call.person)

    def _device_error(self, error: Exception) -> DeviceLostError | None:
        """Return the error of a lost device, if that is what made a call fail."""
        if isinstance(error, DrainingError) or not self._watch.check(error):
            return None
        watch = self._watch
        return DeviceLostError(
            f"{watch.device} failed ({watch.reason}), and this server's process can't use it any "
            "more: it ends, so that it can be restarted. Try again; if it fails again, leave this "
            "request's model or options out",
            subject=watch.device,
        )

    async def _abort(
        self,
        call: Call,
        context: grpc.aio.ServicerContext[Any, Any],
        code: grpc.StatusCode,
        status: Status,
    ) -> None:
        call.code = code
        metadata = ((DETAILS_KEY, status.SerializeToString()), *_trailers(call.request_id))
        await context.abort(code, status.message, metadata)


def _let_go(behaviour: _Behaviour) -> _Behaviour:
    """Free what a refused call held when it ends, not when garbage is collected.

    gRPC keeps the error of an aborted call with the call; the error's traceback has the call's
    frames, and these have the call.
    """

    async def respond(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(requests, context)
        except grpc.aio.AbortError as error:
            _drop_frames(error)
            raise

    return respond


def _drop_frames(error: BaseException) -> None:
    """Take the tracebacks from an error and from all that led to it."""
    known, waiting = set(), [error]
    while waiting:
        one = waiting.pop()
        known.add(id(one))
        one.__traceback__ = None
        before = filter(None, (one.__cause__, one.__context__))
        waiting += [other for other in before if id(other) not in known]


async def _write(context: grpc.aio.ServicerContext[Any, Any], response: Any) -> None:
    try:
        await context.write(response)
    except grpc.aio.InternalError:
        # gRPC raises this when the reader has left, if it comes before the cancellation.
        raise asyncio.CancelledError from None


def _trailers(request_id: str) -> tuple[tuple[str, str], ...]:
    return ((REQUEST_ID_KEY, request_id), (VERSION_KEY, server_version()))


async def _take_only(requests: AsyncIterator[Any], call: Call) -> Any:
    """Return the message of a call that has one; raise if it has none."""
    async for request in requests:
        return _count(request, call)
    raise InvalidRequestError("the call ended before its message")


async def _count_stream(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    """Return a stream of messages, each counted and its fields checked."""
    return _counted(requests, call)


async def _counted(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    async for request in requests:
        yield _count(request, call)


def _count(message: Any, call: Call) -> Any:
    call.received_count += 1
    if isinstance(message, Unparsable):
        raise message.error()
    check_known(message, call.client_version)
    return message
