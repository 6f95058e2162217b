"""Servers as replicas of Ray Serve, which starts them, replaces them, and says how many there are.

Ray carries no calls: a replica runs an unmodified thingsvision-server, which announces itself, and
clients reach it through the gateway. docs/cluster.md has the commands.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve  # type: ignore[attr-defined, unused-ignore]  # mypy sees this folder
from server_process import ServerOptions, ServerProcess


class Arguments(BaseModel):
    """The `args` of serve.yaml.

    Attributes:
        home: The folder that all nodes see, with certificates, weights and announcements.
        options: More options of the servers, as environment variables (THINGSVISION_...).
        program: The server and its first arguments; empty: that of Ray's own Python.

    """

    model_config = ConfigDict(extra="forbid")

    home: Path
    options: dict[str, str] = {}
    program: list[str] = []


class Server:
    """A replica: a server in a process of its own, with the GPU that Ray gave the replica."""

    def __init__(self, arguments: Arguments) -> None:
        chosen = {"program": arguments.program} if arguments.program else {}
        home = arguments.home.expanduser().absolute()
        self._process = ServerProcess(ServerOptions(home, arguments.options, **chosen))
        self._process.start(on_end=_end_replica)
        print(f"replica {os.getpid()} runs the server {self._process.address}", file=sys.stderr)

    def check_health(self) -> None:
        """Raise an error unless the server answers; Ray replaces the replica after three."""
        self._process.check_health()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the figure that `busy_share.BusyShare` scales by."""
        return {"busy_share": self._process.busy_share()}

    def __del__(self) -> None:
        """Drain the server. Ray calls it when it takes the replica away."""
        if hasattr(self, "_process"):
            self._process.end()


def servers(arguments: dict[str, Any]) -> serve.Application:
    """Return the application that serve.yaml names, by its `args`."""
    return serve.deployment(Server).bind(Arguments.model_validate(arguments))


def _end_replica(code: int) -> None:
    """End the replica with its server: Ray sees that at once, and starts another."""
    print(f"the server ended with exit code {code}", file=sys.stderr, flush=True)
    os._exit(1)
