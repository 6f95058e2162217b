"""A real server in its own process, for tests of its memory, signals and log."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

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

    def figure(self, name: str) -> float:
        """Return the sum of a metric's samples of that name, over all labels."""
        with urllib.request.urlopen(self.metrics_url, timeout=30) as page:
            families = text_string_to_metric_families(page.read().decode())
            return sum(s.value for family in families for s in family.samples if s.name == name)


@contextmanager
def server_process(folder: Path, **options: object) -> Iterator[ServerProcess]:
    """Run `thingsvision-server` with options, weights and log in `folder`, until the end."""
    metrics_port = _free_port()
    chosen = {"port": 0, "metrics_port": metrics_port, "device": "cpu", "drain_seconds": 1}
    chosen |= {"weights_dir": folder / "weights"} | options
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    command = [sys.executable, "-m", "thingsvision_server", "--no-allow-download", *flags]
    log_file = folder / "server.log"
    with (
        log_file.open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as started,
    ):
        try:
            assert started.stdout is not None
            line = started.stdout.readline()
            assert line.startswith(STARTED), f"it said {line!r}; log: {log_file.read_text()}"
            process = psutil.Process(started.pid)
            metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
            yield ServerProcess(line.removeprefix(STARTED).strip(), process, metrics_url, log_file)
        finally:
            started.terminate()
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()
                raise
    assert started.returncode == 0, (
        f"it ended with {started.returncode}; log: {log_file.read_text()}"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
