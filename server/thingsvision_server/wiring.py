"""Connects the server's parts with its services, opens the sockets, and ends in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from .announcing import check_announcing, make_announcer
from .backends.children.guests import start_early
from .backends.torch.shortcuts import use_shortcuts
from .cluster.announcer import Announcer
from .device_parts import (
    analysis_device,
    publish_device_memory,
    use_device_staging,
)
from .engine.comparing import Comparer
from .engine.device_watch import DeviceWatch
from .engine.extractor import Extractor
from .engine.images.owning import OwnedImages
from .engine.models.residency import Residency
from .engine.pca.fitting import Fitter
from .host import use_share
from .listening import Access, make_access, metrics_page
from .memory_shares import (
    analysis_limits,
)
from .monitoring.metrics import Metrics
from .parts import Parts, make_parts
from .rpc.entrance import Entrance
from .rpc.feature_service import FeatureServicer
from .rpc.gate import Gate
from .rpc.image_service import ImageServicer
from .rpc.interceptors import CallInterceptor
from .rpc.model_service import ModelServicer
from .rpc.pca_service import PCAServicer
from .rpc.person_limits import PersonLimits
from .rpc.private_models import PrivateModels
from .rpc.rdm_reply import RDMReply
from .rpc.requests import OpenRequest, RequestStream
from .rpc.server import GrpcServer, Services
from .rpc.sharing_service import SharingServicer
from .rpc.upload_checks import UploadChecks
from .settings import Settings
from .sources import Sources
from .threads import start_threads

CHANGEABLE = frozenset(
    {
        "allow_download",
        "drain_seconds",
        "idle_seconds",
        "image_store",
        "lame_duck_seconds",
        "lease_seconds",
        "log_format",
        "log_level",
        "max_upload_bytes",
        "pca_quota",
        "person_image_store",
        "person_pca_quota",
        "person_upload_quota",
        "stall_seconds",
        "upload_quota",
        "wait_seconds",
    }
)
"""Options whose values may change while the server runs."""

_WAITING_THREADS = 32

_LAST_SECONDS = 5.0
"""How long other calls may take to end when the device is lost; their passes fail at once."""

_MESSAGE_SLACK_BYTES = 192 * 1024 * 1024
"""An image over its limit must reach the server, so that the error can name it."""


@dataclass(frozen=True)
class RunningServer:
    """A server that accepts calls, at one or several addresses."""

    addresses: list[str]
    address: str
    """What it announces; empty if it is not announced."""
    metrics: Metrics
    metrics_port: int
    """Where the page of metrics is; 0 without."""
    residency: Residency
    sources: Sources
    extractor: Extractor
    watch: DeviceWatch
    access: Access
    stopping: asyncio.Task[None]
    """Refuses new calls and ends when the device is lost."""
    opening: asyncio.Task[None]
    """Opens the sources, which imports their libraries."""
    calls: Callable[[], list[dict[str, Any]]]
    """Returns what each call in progress is."""
    leave: Callable[[float], Awaitable[None]]
    """Says that the server drains, and still takes calls for so many seconds."""
    drain: Callable[[float], Awaitable[None]]
    """Refuses new calls, waits this many seconds for the others, and closes the socket."""
    close: Callable[[], Awaitable[None]]
    """Removes the announcement, frees the models and ends the child processes."""
    change: Callable[[Settings], None]
    """Makes the parts that copied an option of `CHANGEABLE` use its new value. Thread-safe."""


@asynccontextmanager
async def start_server(settings: Settings) -> AsyncIterator[RunningServer]:
    """Serve until the context exits; then drain the calls and free the models."""
    _prepare_process(settings)
    parts = make_parts(settings)
    access = make_access(settings, parts.metrics)
    server = _make_grpc_server(settings, parts, access.entrance)
    publish_device_memory(parts.metrics, parts.residency, parts.room)
    parts.claims.heartbeats.start()
    with ExitStack() as stack:
        metrics_port = _enter_contexts(stack, settings, parts, access)
        addresses = await server.start(access.listeners)
        describe = parts.residency_reply.to_json
        announcer = make_announcer(
            settings, parts.membership, describe, addresses, metrics_port=metrics_port
        )
        if announcer is not None:
            await announcer.start()
        stack.enter_context(access.watching())
        stack.enter_context(parts.residency.idle.running())
        # The libraries take seconds to import: do it before the first request asks for one.
        if settings.warm_guests:
            parts.guests.warm_up()
        opening = asyncio.create_task(asyncio.to_thread(parts.sources.open_all))
        leave = partial(_leave, parts, announcer, server)
        close = partial(parts.close, announcer)
        stopping = asyncio.create_task(
            _stop_when_lost(parts.watch, server, leave, announcer), name="watch device"
        )
        try:
            yield RunningServer(
                addresses=addresses,
                address=parts.membership.address,
                metrics=parts.metrics,
                metrics_port=metrics_port,
                residency=parts.residency,
                sources=parts.sources,
                extractor=parts.extractor,
                watch=parts.watch,
                access=access,
                stopping=stopping,
                opening=opening,
                calls=server.running_calls,
                leave=leave,
                drain=server.stop,
                close=close,
                change=parts.change,
            )
        finally:
            stopping.cancel()
            await leave(0.0)
            await server.stop(settings.drain_seconds)
            await close()
            await opening


def _prepare_process(settings: Settings) -> None:
    """Check what needs no part, and start what takes a while."""
    if settings.node_share is not None:
        use_share(settings.node_share)
    check_announcing(settings)
    if settings.warm_guests:
        start_early(keep_freed_memory=settings.keep_freed_memory)
    _use_waiting_threads()


def _enter_contexts(stack: ExitStack, settings: Settings, parts: Parts, access: Access) -> int:
    """Enter what must be there before the first call, and after the last.

    Return the port of the page of metrics, 0 without.
    """
    stack.enter_context(_use_shortcuts(settings))
    stack.enter_context(use_device_staging(settings, parts.lanes.device))
    stack.callback(parts.lanes.close)
    stack.callback(parts.preparer.close)
    stack.callback(parts.projections.close)
    if not settings.metrics_port:
        return 0
    return stack.enter_context(metrics_page(settings, parts.metrics, access))


async def _leave(
    parts: Parts, announcer: Announcer | None, server: GrpcServer, seconds: float
) -> None:
    """Tell gateways that the server drains, and wait so many seconds until they know."""
    parts.residency_reply.is_draining = True
    parts.metrics.draining.set(1)
    if announcer is not None:
        await announcer.drain()
    await server.leave()
    await asyncio.sleep(seconds)


async def _stop_when_lost(
    watch: DeviceWatch,
    server: GrpcServer,
    leave: Callable[[float], Awaitable[None]],
    announcer: Announcer | None,
) -> None:
    """Refuse calls once the device is lost; those that run get their errors."""
    await watch.wait()
    await leave(0.0)
    await server.stop(_LAST_SECONDS)
    if announcer is not None:
        await announcer.stop()


def _use_waiting_threads() -> None:
    """Give the event loop threads for calls that block, each of which may use all cores."""
    # The frameworks take seconds to import: `--help` and a wrong option need not wait for them.
    from .backends.torch.device import core_count, use_cores

    threads = ThreadPoolExecutor(_WAITING_THREADS, "wait", partial(use_cores, core_count()))
    start_threads(threads, _WAITING_THREADS)
    asyncio.get_running_loop().set_default_executor(threads)


def _make_services(settings: Settings, parts: Parts, entrance: Entrance) -> Services:
    device, metrics, extractor = analysis_device(parts.lanes.device), parts.metrics, parts.extractor
    fast_frames = settings.fast_frames
    limits = analysis_limits(
        settings, lambda person, taken: metrics.people.add(person, computation_seconds=taken)
    )
    rdm_reply = RDMReply(extractor, Comparer(device, limits), metrics, fast_frames=fast_frames)

    def open_request(messages: AsyncIterator[Any], context: Any) -> RequestStream:
        return RequestStream(messages, context, settings.stall_seconds, metrics.people)

    return Services(
        features=FeatureServicer(
            open_request,
            parts.sources,
            extractor,
            rdm_reply=rdm_reply,
            metrics=metrics,
            server=parts.residency_reply.server,
            fast_frames=fast_frames,
        ),
        models=_make_model_servicer(parts, open_request),
        images=ImageServicer(parts.images),
        pcas=PCAServicer(open_request, extractor, parts.pcas, partial(Fitter, device, limits)),
        sharing=SharingServicer(
            [parts.uploads, parts.pcas, OwnedImages(parts.images.store)], entrance.knows
        ),
    )


def _make_grpc_server(settings: Settings, parts: Parts, entrance: Entrance) -> GrpcServer:
    gate = Gate()
    interceptor = CallInterceptor(
        parts.metrics,
        gate,
        parts.watch,
        entrance=entrance,
        limits=PersonLimits(settings.person_calls),
        membership=parts.membership,
        private=PrivateModels(parts.uploads),
    )
    message_bytes = settings.max_image_bytes + _MESSAGE_SLACK_BYTES
    return GrpcServer(_make_services(settings, parts, entrance), interceptor, gate, message_bytes)


def _make_model_servicer(parts: Parts, open_request: OpenRequest) -> ModelServicer:
    return ModelServicer(
        open_request,
        parts.extractor,
        parts.residency,
        parts.uploads,
        reply=parts.residency_reply,
        checks=UploadChecks(
            on_used=lambda person, taken: parts.metrics.people.add(
                person, computation_seconds=taken
            )
        ),
    )


def _use_shortcuts(settings: Settings) -> AbstractContextManager[None]:
    return use_shortcuts(
        fast_max_pool=settings.fast_max_pool,
        skip_initialisation=settings.skip_initialisation,
        untried_options=settings.untried_options,
    )
