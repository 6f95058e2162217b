"""Starts the server: makes its parts from the settings, connects them, and opens the socket."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TextIO

import psutil
import structlog
from prometheus_client import start_http_server

from .allocator import release_freed_memory
from .backends.tensorflow.model import TensorFlowRuntime
from .backends.torch.shortcuts import use_shortcuts
from .engine.comparing import AnalysisLimits, Comparer
from .engine.extractor import Extractor
from .engine.images.preparing import ImagePreparer
from .engine.images.server_images import ServerImages
from .engine.images.store import ImageStore
from .engine.models.loading import ModelLoader
from .engine.models.residency import Loading, Residency
from .engine.passes.batcher import BatchLimits
from .engine.passes.lanes import Cores, DeviceLanes
from .engine.pca.fitting import Fitter
from .engine.pca.store import PCAStore
from .errors import PreconditionError
from .images import ImageDecoder, ImageLimits
from .metrics import Metrics
from .rpc.feature_service import FeatureServicer
from .rpc.image_service import ImageServicer
from .rpc.model_service import ModelServicer
from .rpc.pca_service import PCAServicer
from .rpc.rdm_reply import RDMReply
from .rpc.server import GrpcServer
from .settings import Settings
from .sources import Sources
from .sources.context import SourceContext
from .sources.own.trial import check_usable
from .sources.uploads.store import UploadStore
from .sources.weights.folder import WeightsFolder

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WAITING_THREADS = 32
_MESSAGE_SLACK_BYTES = 192 * 1024 * 1024
"""An image over its limit must reach the server, so that the error can name it."""


@dataclass(frozen=True)
class RunningServer:
    """A server that accepts calls."""

    port: int
    metrics: Metrics
    residency: Residency
    sources: Sources
    extractor: Extractor
    opening: asyncio.Task[None]
    """Opens the sources, which imports their libraries."""


@dataclass(frozen=True)
class _Parts:
    """The parts that the services of one server share."""

    metrics: Metrics
    lanes: DeviceLanes
    weights: WeightsFolder
    tensorflow: TensorFlowRuntime
    sources: Sources
    residency: Residency
    images: ServerImages
    preparer: ImagePreparer
    pcas: PCAStore
    extractor: Extractor


@asynccontextmanager
async def start_server(settings: Settings) -> AsyncIterator[RunningServer]:
    """Serve until the context exits; then drain the calls and free the models."""
    _use_waiting_threads()
    parts = _make_parts(settings)
    server = _make_grpc_server(settings, parts)
    _publish_device_memory(parts.lanes.device, parts.metrics)
    with ExitStack() as stack:
        stack.enter_context(_use_shortcuts(settings))
        stack.callback(parts.lanes.close)
        stack.callback(parts.preparer.close)
        if settings.metrics_port:
            stack.enter_context(_metrics_page(settings, parts.metrics))
        port = await server.start(f"{settings.host}:{settings.port}")
        # The libraries take seconds to import: do it before the first request asks for one.
        opening = asyncio.create_task(asyncio.to_thread(parts.sources.open_all))
        try:
            yield RunningServer(
                port=port,
                metrics=parts.metrics,
                residency=parts.residency,
                sources=parts.sources,
                extractor=parts.extractor,
                opening=opening,
            )
        finally:
            await server.stop(settings.drain_seconds)
            await parts.residency.close()
            await opening


def _use_waiting_threads() -> None:
    """Give the event loop threads for calls that block, each of which may use all cores."""
    # The frameworks take seconds to import: `--help` and a wrong option need not wait for them.
    from .backends.torch.device import core_count, use_cores

    threads = ThreadPoolExecutor(_WAITING_THREADS, "wait", partial(use_cores, core_count()))
    asyncio.get_running_loop().set_default_executor(threads)


def _make_parts(settings: Settings) -> _Parts:
    metrics, lanes = Metrics(), _make_lanes(settings)
    weights_dir = settings.weights_dir.expanduser()
    weights = WeightsFolder(weights_dir, allow_download=settings.allow_download)
    tensorflow = TensorFlowRuntime(
        settings.tensorflow_python, keep_freed_memory=settings.keep_freed_memory
    )
    context = SourceContext(weights, tensorflow)
    sources = Sources(context, throttle_imports=settings.throttle_imports)
    batch_limits = BatchLimits(settings.max_batch, settings.max_batch_bytes)
    loader = ModelLoader(sources, lanes, batch_limits, metrics)
    residency = _make_residency(settings, loader, lanes.device, metrics)
    images = ServerImages(
        ImageStore(weights_dir / "images", settings.image_store), settings.image_root
    )
    preparer = _make_preparer(settings, images, metrics)
    pcas = PCAStore(weights_dir / "pca", settings.pca_quota)
    return _Parts(
        metrics=metrics,
        lanes=lanes,
        weights=weights,
        tensorflow=tensorflow,
        sources=sources,
        residency=residency,
        images=images,
        preparer=preparer,
        pcas=pcas,
        extractor=Extractor(loader, residency, preparer, pcas),
    )


def _make_lanes(settings: Settings) -> DeviceLanes:
    from .backends.torch.device import core_count, use_cores

    device, cores = _find_device(settings), Cores(core_count(), use_cores)
    width = min(settings.cpu_lanes, cores.count) if device == "cpu" else 1
    return DeviceLanes(device, cores, width, on_idle=release_freed_memory)


def _find_device(settings: Settings) -> str:
    from .backends.torch.device import check_device, default_device, use_exact_float32

    use_exact_float32()
    return default_device() if settings.device == "auto" else check_device(settings.device)


def _make_residency(
    settings: Settings, loader: ModelLoader, device: str, metrics: Metrics
) -> Residency:
    return Residency(
        Loading(loader.predict_bytes, loader.load),
        device,
        settings.device_memory or _default_budget_bytes(device),
        metrics,
        host_budget_bytes=_host_budget_bytes(settings, device),
    )


def _make_preparer(settings: Settings, images: ServerImages, metrics: Metrics) -> ImagePreparer:
    from .backends.torch.device import use_cores

    decoder = ImageDecoder(ImageLimits(settings.max_image_bytes, settings.max_image_pixels))
    return ImagePreparer(
        decoder,
        images,
        metrics,
        threads=settings.decode_threads,
        initializer=partial(use_cores, 1),
    )


def _make_grpc_server(settings: Settings, parts: _Parts) -> GrpcServer:
    device, metrics, extractor = parts.lanes.device, parts.metrics, parts.extractor
    limits, fast_frames = _analysis_limits(settings), settings.fast_frames
    rdm_reply = RDMReply(extractor, Comparer(device, limits), metrics, fast_frames=fast_frames)
    uploads = UploadStore(
        parts.weights.uploads,
        settings.max_upload_bytes,
        settings.upload_quota,
        partial(check_usable, tensorflow=parts.tensorflow),
    )
    return GrpcServer(
        features=FeatureServicer(
            parts.sources, extractor, rdm_reply, metrics, fast_frames=fast_frames
        ),
        models=ModelServicer(extractor, parts.residency, uploads),
        images=ImageServicer(parts.images),
        pcas=PCAServicer(extractor, parts.pcas, partial(Fitter, device, limits)),
        metrics=metrics,
        max_message_bytes=settings.max_image_bytes + _MESSAGE_SLACK_BYTES,
    )


def _use_shortcuts(settings: Settings) -> AbstractContextManager[None]:
    return use_shortcuts(
        fast_max_pool=settings.fast_max_pool, skip_initialisation=settings.skip_initialisation
    )


@contextmanager
def _metrics_page(settings: Settings, metrics: Metrics) -> Iterator[None]:
    address = f"{settings.host}:{settings.metrics_port}"
    try:
        http, _ = start_http_server(settings.metrics_port, settings.host, metrics.registry)
    except OSError as error:
        raise OSError(f"can't listen on {address} for metrics: {error.strerror}") from error
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()


def _default_budget_bytes(device: str) -> int:
    from .backends.torch.device import device_memory_bytes

    if device == "cpu":
        return int(psutil.virtual_memory().total // 2)
    return int(device_memory_bytes(device) * 0.8)


def _host_budget_bytes(settings: Settings, device: str) -> int:
    if settings.host_memory is not None:
        return settings.host_memory
    # On a CPU an offloaded model would stay where it was.
    return 0 if device == "cpu" else int(psutil.virtual_memory().total // 4)


def _analysis_limits(settings: Settings) -> AnalysisLimits:
    rdm_bytes = settings.rdm_memory or psutil.virtual_memory().total // 2
    return AnalysisLimits(
        features_bytes=settings.rdm_features_memory,
        rdm_bytes=rdm_bytes,
        spill_dir=settings.spill_dir,
        thread_pool=settings.rdm_thread_pool,
    )


def _publish_device_memory(device: str, metrics: Metrics) -> None:
    from .backends.torch.device import device_memory_used_bytes

    if device == "cpu":
        metrics.device_total_bytes.set(psutil.virtual_memory().total)
        metrics.device_used_bytes.set_function(lambda: psutil.virtual_memory().used)
        return
    from .backends.torch.device import device_memory_bytes

    metrics.device_total_bytes.set(device_memory_bytes(device))
    metrics.device_used_bytes.set_function(lambda: device_memory_used_bytes(device))


def _log_to(stream: TextIO, settings: Settings) -> None:
    people = settings.log_format == "console"
    renderer = structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, settings.log_level.upper())
        ),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )


def _stop_on_signals() -> asyncio.Event:
    """Return the event that SIGTERM and Ctrl-C set; a second signal changes nothing."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop(_number: int, _frame: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stopped.set)

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    return stopped


def _freeze_libraries(_opening: asyncio.Task[None]) -> None:
    """Leave the objects of all libraries out of later garbage collections.

    Every unload collects garbage, which took 0.3 s of processor time with them.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


async def _serve_until_signal(settings: Settings) -> None:
    stopped = _stop_on_signals()
    async with start_server(settings) as server:
        server.opening.add_done_callback(_freeze_libraries)
        # The only line on standard output, for the program that started this process.
        print(f"thingsvision-server listening on {settings.host}:{server.port}", flush=True)
        await stopped.wait()
        structlog.get_logger().info("shutting down", drain_seconds=settings.drain_seconds)


def main(settings: Settings) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    _log_to(sys.stderr, settings)
    try:
        asyncio.run(_serve_until_signal(settings))
    except (OSError, PreconditionError) as error:
        sys.exit(f"thingsvision-server: {error}")
    # Python removes the handlers while it exits; a late second signal is not a failure.
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
