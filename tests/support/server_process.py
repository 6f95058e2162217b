"""A real server in its own process, for tests of its memory, signals and log.

A server takes 10 seconds of a core to import its libraries: servers are forked from one process
that has imported them (`server_template`).
"""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from unittest import mock

import psutil
from prometheus_client.parser import text_string_to_metric_families

from thingsvision_server import main

_START_SECONDS = 60
STARTED = "thingsvision-server listening on "


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs, its log, and its figures."""

    address: str
    process: psutil.Process
    metrics_url: str
    log_file: Path

    @property
    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM, bytes."""
        return int(self.process.memory_info().rss)

    @property
    def log(self) -> str:
        """What the server logged so far."""
        return self.log_file.read_text()

    def figure(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples of that name, over all labels but these."""
        with urllib.request.urlopen(self.metrics_url, timeout=30) as page:
            families = text_string_to_metric_families(page.read().decode())
            samples = [one for family in families for one in family.samples if one.name == name]
        return sum(one.value for one in samples if labels.items() <= one.labels.items())

    @property
    def internal_error_count(self) -> int:
        """Calls that ended INTERNAL, which are bugs."""
        return int(self.figure("grpc_server_handled_total", grpc_code="INTERNAL"))


@contextmanager
def server_process(
    folder: Path,
    *,
    before: Callable[[], None] | None = None,
    exit_code: int | None = 0,
    **options: object,
) -> Iterator[ServerProcess]:
    """Run `thingsvision-server` with options, weights and log in `folder`, until the end.

    `before` is called in its process before it starts; it must end with `exit_code`, or
    with any if that is None.
    """
    metrics_port = free_port()
    chosen = {"port": 0, "metrics_port": metrics_port, "device": "cpu", "drain_seconds": 1}
    chosen |= {"weights_dir": folder / "weights"} | options
    flags = [
        f"--{name.replace('_', '-')}={value}" for name, value in chosen.items() if value is not None
    ]
    spared = [] if "warm_guests" in options else ["--no-warm-guests"]
    out, log_file = folder / "server.out", folder / "server.log"
    out.unlink(missing_ok=True)  # of an earlier server in the folder, which had another address
    arguments = ["--no-allow-download", *spared, *flags], out, log_file, before
    started = _template().Process(target=_run_server, args=arguments)
    started.start()
    try:
        address = _wait_for_address(started, out)
        assert address, f"it ended with {started.exitcode}; log: {log_file.read_text()}"
        process = psutil.Process(started.pid)
        metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        yield ServerProcess(address, process, metrics_url, log_file)
    finally:
        # A test may have told it to end: a second signal would end it at once, with another code.
        if '"shutting down"' not in log_file.read_text():
            started.terminate()
        started.join(30)
        if started.exitcode is None:
            started.kill()
            raise TimeoutError(f"the server did not stop; log: {log_file.read_text()}")
    assert exit_code in (None, started.exitcode), (
        f"it ended with {started.exitcode}; log: {log_file.read_text()}"
    )


def run_in_template(work: Callable[..., object], *arguments: str) -> ForkServerProcess:
    """Start a function in a process of its own, which needs no time for imports."""
    started = _template().Process(target=work, args=arguments, daemon=True)
    started.start()
    return started


@cache
def _template() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.server_template"])
    # Python 3.11 does not tell the template where this process finds its modules.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    return context


def _run_server(flags: list[str], out: Path, log: Path, before: Callable[[], None] | None) -> None:
    for stream, path in ((sys.stdout, out), (sys.stderr, log)):
        stream.flush()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream.fileno())
        os.close(file)
    sys.argv = ["thingsvision-server", *flags]
    if before is not None:
        before()
    main()


def _wait_for_address(started: ForkServerProcess, out: Path) -> str:
    """Return the address that the server printed; an empty string if it ended before."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and started.exitcode is None:
        printed = out.read_text() if out.exists() else ""
        if printed.endswith("\n"):
            assert printed.startswith(STARTED), f"it said {printed!r}"
            return printed.splitlines()[0].removeprefix(STARTED)
        time.sleep(0.01)
    return ""


def free_port() -> int:
    """Return a port that nothing uses and that the system gives to no program that asks for any."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port of a hundred is free")
