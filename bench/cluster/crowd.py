"""Many endpoints in this process: servers of gRPC that answer health checks and one short call."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer, add_HealthServicer_to_server

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1 import thingsvision_pb2_grpc as pb_grpc
from thingsvision_server.cluster.addresses import own_network
from thingsvision_server.cluster.announcement import Announcement, ServerState
from thingsvision_server.cluster.folder import remove_announcement, write_announcement

_BEAT_SECONDS = 2.0
_LAME_DUCK_SECONDS = 5.0
_THREADS = 16


@dataclass
class Crowd:
    """Endpoints by name, and the folder in which they announce themselves while they are there."""

    folder: Path
    status: Mapping[str, Any]
    check_count: int = 0
    _ports: dict[str, int] = field(default_factory=dict)
    _here: set[str] = field(default_factory=set)
    _beat: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self) -> list[str]:
        """Return the names of all endpoints."""
        return [*self._ports]

    def address_of(self, name: str) -> str:
        """Return the address of an endpoint."""
        return f"127.0.0.1:{self._ports[name]}"

    def addresses(self) -> set[str]:
        """Return the addresses of the endpoints that are there."""
        return set(map(self.address_of, self._here))

    def come(self, *names: str) -> None:
        """Announce endpoints from now on."""
        self._here |= {*names}
        self.beat()

    def leave(self, *names: str) -> None:
        """Announce that endpoints drain, then that they are gone, as servers do at SIGTERM."""
        with self._lock:
            self._here -= {*names}
            for name in names:
                write_announcement(self.folder, self._announce(name, ServerState.DRAINING))
        threading.Event().wait(_LAME_DUCK_SECONDS)
        for name in names:
            remove_announcement(self.folder, self._announce(name, ServerState.DRAINING))

    def beat(self) -> None:
        """Write the announcements of all that are there."""
        with self._lock:
            self._beat += 1
            for name in self._here:
                write_announcement(self.folder, self._announce(name, ServerState.SERVING))

    def add(self, name: str, port: int) -> None:
        """Add an endpoint, which is not announced yet."""
        self._ports[name] = port

    def _announce(self, name: str, state: ServerState) -> Announcement:
        address = self.address_of(name)
        return Announcement(
            address, own_network(), name, self._beat, state=state, status=self.status
        )


class _Endpoint(HealthServicer, pb_grpc.ModelServiceServicer):  # type: ignore[misc]
    """Is always healthy, and says that it holds nothing."""

    def __init__(self, found: Crowd) -> None:
        self._found = found

    def Check(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Count the check."""
        self._found.check_count += 1
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    def GetResidency(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return an empty reply: the gateway says who gave it."""
        return pb.GetResidencyResponse()


@contextmanager
def crowd(folder: Path, files: Path, count: int, status: Mapping[str, Any]) -> Iterator[Crowd]:
    """Run so many endpoints with the servers' certificate in `files`, all announced."""
    found = Crowd(folder, status)
    threads = ThreadPoolExecutor(_THREADS)
    key, cert = (files / "server.key").read_bytes(), (files / "server.pem").read_bytes()
    shown = grpc.ssl_server_credentials([(key, cert)], (files / "ca.pem").read_bytes(), True)
    servers = []
    for number in range(count):
        server = grpc.server(threads)
        add_HealthServicer_to_server(_Endpoint(found), server)
        pb_grpc.add_ModelServiceServicer_to_server(_Endpoint(found), server)  # type: ignore[no-untyped-call]
        found.add(f"{number}", server.add_secure_port("127.0.0.1:0", shown))
        server.start()
        servers.append(server)
    over = threading.Event()
    beating = threading.Thread(target=_beat_until, args=[found, over])
    found.come(*found.names())
    beating.start()
    try:
        yield found
    finally:
        over.set()
        beating.join()
        for ended in [server.stop(None) for server in servers]:
            ended.wait(10)


def _beat_until(found: Crowd, over: threading.Event) -> None:
    while not over.wait(_BEAT_SECONDS):
        found.beat()
