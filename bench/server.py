"""Runs `thingsvision-server` in its own process while a measurement or the demo needs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

READY_LINE = "thingsvision-server listening on "
START_SECONDS = 120
STOP_SECONDS = 35
IDLE_SECONDS, IDLE_PERCENT = 1.0, 5.0


@dataclass(frozen=True)
class ServerProcess:
    """The address and process of a running server."""

    address: str
    pid: int

    def wait_until_idle(self) -> None:
        """Wait until the server is idle: after its start it imports libraries for some seconds."""
        process, deadline = psutil.Process(self.pid), time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.cpu_percent(IDLE_SECONDS) > IDLE_PERCENT:
            pass


@contextmanager
def serve(
    log_path: Path, *options: str, variables: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Run a server with these options on a free port. Raises RuntimeError if it doesn't start.

    `variables` are added to the environment.
    """
    command = [
        *(sys.executable, "-m", "thingsvision_server"),  # it need not be installed
        "--host=127.0.0.1",
        "--port=0",
        "--metrics-port=0",
        "--no-allow-download",
        *options,
    ]
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | dict(variables or {})
        )
    try:
        yield ServerProcess(_address(server, log_path), server.pid)
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen[bytes], log_path: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        for line in log_path.read_text().splitlines():
            if line.startswith(READY_LINE):
                return line.removeprefix(READY_LINE).strip()
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start; its log:\n{log_path.read_text()}")
