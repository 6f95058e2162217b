"""The two ways that are compared: to a server alone, and through a gateway to three servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from thingsvision_client import Client

from ..photographs import photograph_folder

NAMES = ("a", "b", "c")
PHOTO_COUNT, PHOTO_PIXELS = 16, 48
LOADS = "thingsvision_model_loads_total"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    `rounds` of both ways in turn, `seconds` of each row of clients in each round, `calls` of each
    row of latency on each way, and `megabytes` of each stream.
    """

    rounds: int = 3
    seconds: float = 4.0
    calls: int = 500
    megabytes: int = 2048


@dataclass(frozen=True)
class Way:
    """A way to servers."""

    address: str
    ca: Path
    token: str
    servers: list[Any]
    """Their processes."""

    def client(self) -> Client:
        """Return a client that takes this way."""
        return Client(self.address, ca=self.ca, token=self.token)

    def count_loads(self) -> int:
        """Return how many models its servers have loaded since they started."""
        return int(sum(server.figure(LOADS) for server in self.servers))


@dataclass(frozen=True)
class Ways:
    """Both ways, the gateway's process, and a folder of photographs."""

    by_name: dict[str, Way]
    gateway: psutil.Process
    photos: Path

    def each(self, measure: Callable[[Way], Any]) -> dict[str, Any]:
        """Measure both ways, one after the other."""
        return {name: measure(way) for name, way in self.by_name.items()}


@contextmanager
def open_ways(folder: Path) -> Iterator[Ways]:
    """Run a gateway with three servers, and a server alone, until the end of the context."""
    from support.cluster import cluster_of
    from support.server_process import server_process
    from support.tiny_photos import write_tiny_photos

    photos, alone = folder / "photos", folder / "alone"
    found = sorted(photograph_folder(None).glob("*.[jp][pn]g"))[:4]
    write_tiny_photos(photos, found, PHOTO_COUNT, side=PHOTO_PIXELS)
    alone.mkdir()
    with cluster_of(folder, *NAMES, asks_often=False, log_level="warning") as cluster:
        files = cluster.files
        options = {"tls_cert": files / "server.pem", "tls_key": files / "server.key"}
        options |= {"tokens": files / "tokens.json", "device_memory": "1GiB"}
        with server_process(alone, log_level="warning", exit_code=None, **options) as server:
            port = server.address.rpartition(":")[2]
            access = {"ca": files / "ca.pem", "token": cluster.token}
            ways = {
                "direct": Way(f"grpcs://localhost:{port}", servers=[server], **access),
                "gateway": Way(cluster.address, servers=[*cluster.servers.values()], **access),
            }
            yield Ways(ways, psutil.Process(cluster.gateways[0].process.pid), photos)


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has taken, seconds."""
    taken = process.cpu_times()
    return float(taken.user + taken.system)
