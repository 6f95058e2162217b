"""Runs the server's process: opens the server, obeys signals, and ends."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import sys
from functools import partial

import structlog

from ..announcing import lame_duck_seconds
from ..engine.device_watch import DeviceWatch
from ..errors import PreconditionError
from ..monitoring.tracing import export_spans, is_wanted
from ..settings import Settings
from ..wiring import RunningServer, start_server
from .checks import find_doubts
from .log import log_to
from .reload import reload
from .report import report
from .signals import Signals, end_process
from .summary import tell_start

_LOST_EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits: a supervisor that restarts on failure starts the server again."""

_FREE_SECONDS = 1.5
"""How long models may take to be freed; the system frees the others with the process."""

_log = structlog.get_logger(__name__)


def serve(settings: Settings, signals: Signals) -> None:
    """Run the server until SIGTERM or Ctrl-C; this ends the process."""
    log_to(sys.stderr, settings)
    _trace()
    if settings.insecure:
        _warn_insecure()
    for doubt in find_doubts(settings):
        _log.warning(doubt)
    try:
        asyncio.run(_serve_until_signal(settings, signals))
    except (OSError, PreconditionError) as error:
        sys.exit(f"thingsvision-server: {error}")


def _trace() -> None:
    """Export spans if a variable of OpenTelemetry says where to."""
    if not is_wanted(os.environ):
        return
    try:
        export_spans()
    except ModuleNotFoundError as error:
        sys.exit(
            f"thingsvision-server: {error.name} is missing, which sends spans as OTEL_... says; "
            "unset the variable, or pip install 'thingsvision-service[otel]'"
        )


async def _serve_until_signal(settings: Settings, signals: Signals) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    async with start_server(settings) as server:
        signals.stop = partial(loop.call_soon_threadsafe, stopped.set)
        signals.report = partial(report, loop, server)
        signals.start_reloading(partial(reload, settings, server))
        server.opening.add_done_callback(_freeze_libraries)
        # Nothing else is on standard output: it is for the program that started this process.
        lines = [f"thingsvision-server listening on {one}\n" for one in server.addresses]
        print("".join(lines), end="", flush=True)
        # A large folder of weights takes a while to count.
        telling = asyncio.create_task(asyncio.to_thread(tell_start, settings, server))
        stop_asked = asyncio.create_task(stopped.wait(), name="wait for a signal")
        await asyncio.wait({stop_asked, server.stopping}, return_when=asyncio.FIRST_COMPLETED)
        telling.cancel()
        if server.watch.reason:
            await asyncio.wait({server.stopping})
            _end_lost(server.watch)
        lame = lame_duck_seconds(settings)
        _log.info("shutting down", drain_seconds=settings.drain_seconds, lame_duck_seconds=lame)
        await server.leave(lame)
        await _stop(server, settings)
    end_process(0)


async def _stop(server: RunningServer, settings: Settings) -> None:
    """Drain the calls, free what models hold outside this process, and end it.

    Python would first free every object, and wait for threads whose results nobody wants any more.
    """
    await server.drain(settings.drain_seconds)
    closing = asyncio.ensure_future(server.close())
    await asyncio.wait({closing}, timeout=_FREE_SECONDS)
    _log.info("stopped")
    atexit._run_exitfuncs()  # noqa: SLF001 - what Python itself calls before it frees objects
    end_process(0)


def _warn_insecure() -> None:
    """Say what --insecure means, in red on a terminal."""
    red, end = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    print(
        f"{red}thingsvision-server: --insecure: everybody who reaches this server may use it, read "
        "and delete what others uploaded, and read along on the way. Leave it out, and give "
        f"--tokens and --tls-cert.{end}",
        file=sys.stderr,
        flush=True,
    )


def _freeze_libraries(_opening: asyncio.Task[None]) -> None:
    """Leave the objects of all libraries out of later garbage collections.

    Every unload collects garbage, which took 0.3 s of processor time with them.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


def _end_lost(watch: DeviceWatch) -> None:
    """End the process without freeing anything: with a lost device every attempt would fail."""
    print(
        f"thingsvision-server: {watch.device} failed ({watch.reason}), and this process can't use "
        "it any more. Start the server again; if this repeats, look at the device's own log "
        "(nvidia-smi -q, dmesg)",
        file=sys.stderr,
    )
    end_process(_LOST_EXIT_CODE)
