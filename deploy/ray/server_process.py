"""Runs an unmodified thingsvision-server: starts it, asks how it is, and ends it.

It needs no Ray: `thingsvision_ray.py` is what Ray calls. Nothing of a server's work passes through
here: the server announces itself, and clients reach it through the gateway.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from grpc_health.v1 import health_pb2, health_pb2_grpc

from thingsvision_server.cluster.announcement import Announcement, parse_announcement
from thingsvision_server.cluster.folder import announcement_names, read_file

sys.path.append(str(Path(__file__).resolve().parent.parent))
from healthcheck import TIMEOUT_SECONDS, open_channel

_STARTED = "thingsvision-server listening on "
_ANNOUNCED_SECONDS = 60.0
_MORE_SECONDS = 20.0
"""How long a server may take to end after its calls and the lame duck's seconds."""


@dataclass(frozen=True)
class ServerOptions:
    """What a server is started with.

    Attributes:
        home: The folder that all nodes see: certificates (deploy/envoy/certificates), weights and
            announcements.
        options: More options of the server, as environment variables (THINGSVISION_...).
        program: The program and its first arguments; by default that of this Python.

    """

    home: Path
    options: Mapping[str, str] = field(default_factory=dict)
    program: Sequence[str] = (str(Path(sys.executable).parent / "thingsvision-server"),)

    def environment(self) -> dict[str, str]:
        """Return the options as environment variables, with what a replica needs.

        Raises ValueError if they open another way than the gateway's.
        """
        files = {
            "CLIENT_CA": "ca.pem",
            "TLS_CERT": "server.pem",
            "TLS_KEY": "server.key",
            "TOKENS": "tokens.json",
            "WEIGHTS_DIR": "weights",
            "ANNOUNCE_DIR": "announced",
        }
        several = sorted({"THINGSVISION_PORT", "THINGSVISION_UNIX"} & set(self.options))
        if several:
            raise ValueError(f"`options` must leave {several[0]} out: only the gateway is let in")
        found = {f"THINGSVISION_{name}": str(self.home / file) for name, file in files.items()}
        found |= {
            "THINGSVISION_HOST": "0.0.0.0",  # noqa: S104 - only the gateway's certificate is let in
            "THINGSVISION_MTLS_PORT": "0",
            "THINGSVISION_METRICS_HOST": "0.0.0.0",  # noqa: S104 - asks for a token
            "THINGSVISION_METRICS_PORT": "auto",
            "THINGSVISION_DRAIN_SECONDS": "60",
            "THINGSVISION_LAME_DUCK_SECONDS": "5",
        }
        return found | dict(self.options)


class ServerProcess:
    """A server in a process of its own, which ends soon after this process does."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._environment = options.environment()
        self._process: subprocess.Popen[str] | None = None
        self._is_ending = False
        self._own: Announcement | None = None
        self._last = (0.0, 0.0)

    def start(self, on_end: Callable[[int], object]) -> None:
        """Start the server, and return when it takes calls and is announced.

        If it ends without having been told to, `on_end` is called with its exit code, in a thread.
        Raises RuntimeError if it does not start.
        """
        # Its log goes where this process' standard error goes, which Ray keeps. In a session of its
        # own: Ray ends the group of a replica that was killed, and its calls with it; --parent lets
        # them finish.
        self._process = process = subprocess.Popen(  # noqa: S603 - the program is a setting
            [*self._options.program, f"--parent={os.getpid()}"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | self._environment,
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        port = _read_port(process.stdout)
        if not port:
            process.stdout.close()
            raise RuntimeError(f"thingsvision-server ended with exit code {process.wait()}")
        self._own = self._wait_for_announcement(port)
        self._last = (time.monotonic(), _busy_seconds(self._own))
        threading.Thread(target=self._watch, args=[on_end], name="server", daemon=True).start()

    @property
    def address(self) -> str:
        """What the server announces."""
        return "" if self._own is None else self._own.address

    @property
    def process_id(self) -> int:
        """The id of the server's process; 0 before it starts."""
        return 0 if self._process is None else self._process.pid

    def check_health(self) -> None:
        """Raise an error unless the server answers that it is serving."""
        if self._process is None or self._process.poll() is not None or self._own is None:
            raise RuntimeError("the server has ended")
        files = (self._environment[f"THINGSVISION_TLS_{name}"] for name in ("CERT", "KEY"))
        with open_channel(f"localhost:{self._own.endpoint.port}", *files) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            raise RuntimeError(f"{self._own.address} is not serving: {reply}")

    def busy_share(self) -> float:
        """Return the share of the time since the last call in which the device was at work.

        Raises OSError if the folder of announcements can't be read, RuntimeError if the server is
        not announced any more.
        """
        found = self._own and self._find_announcement(self._own.endpoint.port)
        if found is None:
            raise RuntimeError("the server is not announced")
        then, before = self._last
        self._last = now, seconds = time.monotonic(), _busy_seconds(found)
        # The file is up to 2 s old, so the quotient may be above 1.
        return min(1.0, max(0.0, (seconds - before) / (now - then)))

    def end(self) -> None:
        """Let the server announce that it drains and finish its calls, then end it."""
        self._is_ending = True
        if self._process is None or self._process.poll() is not None:
            return
        waits = ("THINGSVISION_DRAIN_SECONDS", "THINGSVISION_LAME_DUCK_SECONDS")
        seconds = sum(float(self._environment[name]) for name in waits) + _MORE_SECONDS
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _watch(self, on_end: Callable[[int], object]) -> None:
        assert self._process is not None  # noqa: S101 - it was started
        code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if not self._is_ending:
            on_end(code)

    def _wait_for_announcement(self, port: int) -> Announcement:
        deadline = time.monotonic() + _ANNOUNCED_SECONDS
        while time.monotonic() < deadline:
            found = self._find_announcement(port)
            if found is not None:
                return found
            time.sleep(0.1)
        raise RuntimeError(f"the server did not announce itself in {str(self._folder)!r}")

    def _find_announcement(self, port: int) -> Announcement | None:
        """Return what the server on a port of this machine announced; None if it did not yet."""
        for name in announcement_names(self._folder):
            try:
                found = parse_announcement(read_file(self._folder / name))
            except (OSError, ValueError):
                continue  # another server's, which may be going
            servers = found.status.get("servers", [])
            here = [one for one in servers if one.get("host_name") == socket.gethostname()]
            if here and found.endpoint.port == port:
                return found
        return None

    @property
    def _folder(self) -> Path:
        return Path(self._environment["THINGSVISION_ANNOUNCE_DIR"])


def _read_port(printed: IO[str]) -> int:
    """Return the port that a server says it listens on; 0 if it ends before."""
    line = printed.readline()
    return int(line.rpartition(":")[2]) if line.startswith(_STARTED) else 0


def _busy_seconds(announcement: Announcement) -> float:
    devices = announcement.status.get("devices", [])
    return float(sum(float(one.get("busy_seconds", 0.0)) for one in devices))
