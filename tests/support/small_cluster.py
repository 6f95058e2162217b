"""A small cluster: real servers in processes of their own, on one folder of weights."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.server_process import ServerProcess, server_process
from thingsvision_server.cluster import watch


@dataclass(frozen=True)
class SmallCluster:
    """Servers that announce themselves in one folder; `folders[i]` has the log of `servers[i]`."""

    announce_dir: Path
    weights_dir: Path
    servers: list[ServerProcess]

    @property
    def addresses(self) -> list[str]:
        """The addresses that the servers announce, in the order of their start."""
        return [server.address for server in self.servers]


@contextmanager
def small_cluster(
    folder: Path, count: int = 2, *, killed: Collection[int] = (), **options: object
) -> Iterator[SmallCluster]:
    """Run so many servers until the end; options are those of each server.

    The test must end the servers whose numbers are `killed` with SIGKILL.
    """
    announce_dir, weights_dir = folder / "announced", folder / "weights"
    weights_dir.mkdir(exist_ok=True, parents=True)
    with ExitStack() as stack:
        servers = []
        for number in range(count):
            own = folder / f"server-{number}"
            own.mkdir()
            chosen = {"announce_dir": announce_dir, "weights_dir": weights_dir} | options
            code = -signal.SIGKILL if number in killed else 0
            running = server_process(own, exit_code=code, **chosen)
            servers.append(stack.enter_context(running))
        yield SmallCluster(announce_dir, weights_dir, servers)


def believe_for_seconds(seconds: float) -> None:
    """Take servers for dead after fewer seconds in this process, so that a test need not wait."""
    watch.STALE_SECONDS = seconds


def until(is_true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is true; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)
