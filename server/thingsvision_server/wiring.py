"""Starts the server: settings to parts to a socket; the only wiring, and reader of settings."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TextIO

import psutil
import structlog
from prometheus_client import start_http_server

from .allocator import release_freed_memory
from .backends.tensorflow.model import TensorFlowRuntime
from .engine.comparing import Comparer, ComparingLimits
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
from .settings import Settings, read_settings
from .sources import Sources
from .sources.context import SourceContext
from .sources.uploads.store import UploadStore
from .sources.weights.folder import WeightsFolder

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WAITING_THREADS = 32
_MESSAGE_SLACK_BYTES = 192 * 1024 * 1024
"""An image over its limit must reach us, to be refused by its name."""


@dataclass(frozen=True)
class RunningServer:
    """A server that serves."""

    port: int
    metrics: Metrics
    residency: Residency
    sources: Sources
    extractor: Extractor


@asynccontextmanager
async def start_server(settings: Settings) -> AsyncIterator[RunningServer]:
    """Serve while the context lasts; leaving it drains the calls and frees the models."""
    # The frameworks take seconds to import: `--help` and a wrong option need not wait for them.
    from .backends.torch.device import core_count, use_cores

    all_cores, one_core = partial(use_cores, core_count()), partial(use_cores, 1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_WAITING_THREADS, "wait", all_cores))
    metrics = Metrics()
    lanes = _lanes(settings, Cores(core_count(), use_cores))
    weights_dir = settings.weights_dir.expanduser()
    weights = WeightsFolder(weights_dir, allow_download=settings.allow_download)
    tensorflow = TensorFlowRuntime(settings.tensorflow_python)
    sources = Sources(SourceContext(weights, tensorflow))
    batch_limits = BatchLimits(settings.max_batch, settings.max_batch_bytes)
    loader = ModelLoader(sources, lanes, batch_limits, metrics)
    loading = Loading(loader.predict_bytes, loader.load)
    budget_bytes = settings.device_memory or _default_budget_bytes(lanes.device)
    residency = Residency(
        loading,
        lanes.device,
        budget_bytes,
        metrics,
        host_budget_bytes=_host_budget_bytes(settings, lanes.device),
    )
    image_limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    decoder = ImageDecoder(image_limits)
    images = ServerImages(
        ImageStore(weights_dir / "images", settings.image_store), settings.image_root
    )
    threads = settings.decode_threads
    preparer = ImagePreparer(decoder, images, metrics, threads=threads, initializer=one_core)
    pcas = PCAStore(weights_dir / "pca", settings.pca_quota)
    extractor = Extractor(loader, residency, preparer, pcas)
    limits = _comparison_limits(settings)
    comparer = Comparer(lanes.device, limits)
    uploads = UploadStore(weights.uploads, settings.max_upload_bytes, settings.upload_quota)
    server = GrpcServer(
        FeatureServicer(sources, extractor, RDMReply(extractor, comparer, metrics), metrics),
        ModelServicer(extractor, residency, uploads),
        ImageServicer(images),
        PCAServicer(extractor, pcas, partial(Fitter, lanes.device, limits)),
        metrics,
        max_message_bytes=settings.max_image_bytes + _MESSAGE_SLACK_BYTES,
    )
    _publish_device_memory(lanes.device, metrics)
    with ExitStack() as stack:
        stack.callback(lanes.close)
        stack.callback(preparer.close)
        if settings.metrics_port:
            stack.enter_context(_metrics_page(settings, metrics))
        port = await server.start(f"{settings.host}:{settings.port}")
        # The libraries take seconds to import: that is done before the first one asks.
        opening = asyncio.create_task(asyncio.to_thread(sources.open_all))
        try:
            yield RunningServer(port, metrics, residency, sources, extractor)
        finally:
            await server.stop(settings.drain_seconds)
            await residency.close()
            await opening


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


def _device(settings: Settings) -> str:
    from .backends.torch.device import check_device, default_device, use_exact_float32

    use_exact_float32()
    return default_device() if settings.device == "auto" else check_device(settings.device)


def _lanes(settings: Settings, cores: Cores) -> DeviceLanes:
    device = _device(settings)
    width = min(settings.cpu_lanes, cores.count) if device == "cpu" else 1
    return DeviceLanes(device, cores, width, on_idle=release_freed_memory)


def _default_budget_bytes(device: str) -> int:
    from .backends.torch.device import device_memory_bytes

    if device == "cpu":
        return int(psutil.virtual_memory().total // 2)
    return int(device_memory_bytes(device) * 0.8)


def _host_budget_bytes(settings: Settings, device: str) -> int:
    if settings.host_memory is not None:
        return settings.host_memory
    # On a CPU a model that left would stay where it was.
    return 0 if device == "cpu" else int(psutil.virtual_memory().total // 4)


def _comparison_limits(settings: Settings) -> ComparingLimits:
    rdm_bytes = settings.rdm_memory or psutil.virtual_memory().total // 2
    return ComparingLimits(settings.rdm_features_memory, rdm_bytes, settings.spill_dir)


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
    """Return what SIGTERM and Ctrl-C set; a second one changes nothing."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop(_number: int, _frame: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stopped.set)

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    return stopped


async def _serve_until_signal(settings: Settings) -> None:
    stopped = _stop_on_signals()
    async with start_server(settings) as server:
        # The one line on standard output, for whoever started this process.
        print(f"thingsvision-server listening on {settings.host}:{server.port}", flush=True)
        await stopped.wait()
        structlog.get_logger().info("shutting down", drain_seconds=settings.drain_seconds)


def main() -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    settings = read_settings()
    _log_to(sys.stderr, settings)
    try:
        asyncio.run(_serve_until_signal(settings))
    except (OSError, PreconditionError) as error:
        sys.exit(f"thingsvision-server: {error}")
    # Python takes handlers away while it ends; a late second signal is no failure.
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
