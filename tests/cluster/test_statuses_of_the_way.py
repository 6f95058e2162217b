"""What a real Envoy says in a server's place is the way's fault, and is tried again."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.cluster import envoy_program, until
from support.server_process import free_port
from thingsvision_client import Client
from thingsvision_client.errors import DeadlineError, UnavailableError, UnsupportedError

STATUSES = {"ListModels": 1, "GetResidency": 2, "ListPCAs": 13, "ListUploads": 14}
STATUSES |= {"DeletePCA": 12, "ListModules": 0}
"""The status of gRPC that Envoy gives to a method: CANCELLED, UNKNOWN, INTERNAL, and so on."""

_FAULT = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
    "HttpConnectionManager"
)


def _place(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _route(method: str, status: int) -> dict[str, Any]:
    """Return what Envoy does with a method: an abort with a status, or, for 0, a long wait."""
    always = {"percentage": {"numerator": 100}}
    fault = {"abort": {"grpc_status": status} | always}
    if not status:
        fault = {"delay": {"fixed_delay": "60s"} | always}
    return {
        "match": {"safe_regex": {"regex": f"/thingsvision.v1.[A-Za-z]+/{method}"}},
        "direct_response": {"status": 500},
        "typed_per_filter_config": {"fault": {"@type": _FAULT} | fault},
    }


def _config(port: int, admin: int) -> dict[str, Any]:
    routes = [_route(method, status) for method, status in STATUSES.items()]
    host = {"name": "all", "domains": ["*"], "routes": routes}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "calls",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [
            {"name": "fault", "typed_config": {"@type": _FAULT}},
            {"name": "router", "typed_config": {"@type": _ROUTER}},
        ],
    }
    chain = {"filters": [{"name": "calls", "typed_config": manager}]}
    listener = {"name": "calls", "address": _place(port), "filter_chains": [chain]}
    return {
        "admin": {"address": _place(admin)},
        "static_resources": {"listeners": [listener]},
    }


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Callable[[], int]]]:
    """The address of an Envoy without servers, and a count of the calls that it aborted."""
    folder, port, admin = tmp_path_factory.mktemp("way"), free_port(), free_port()
    file = folder / "envoy.json"
    file.write_text(json.dumps(_config(port, admin)))
    command = [envoy_program(), "--config-path", file, "--use-dynamic-base-id"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--concurrency", "1"], stdout=log, stderr=log)

    def page(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return page("/ready").strip() == "LIVE"
        except OSError:
            return False

    def aborted() -> int:
        line = page("/stats?filter=aborts_injected")
        return int(line.split(": ")[1]) if line.strip() else 0

    try:
        until(is_ready, "Envoy starts", 30)
        yield f"127.0.0.1:{port}", aborted
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("method", ["ListModels", "GetResidency", "ListPCAs", "ListUploads"])
def test_it_is_unavailable_after_four_attempts(
    way: tuple[str, Callable[[], int]], method: str
) -> None:
    address, aborted = way
    with Client(address, proxy=False) as client:
        calls: dict[str, Callable[[], object]] = {
            "ListModels": client.models,
            "GetResidency": client.residency,
            "ListPCAs": client.pcas,
            "ListUploads": client.uploads,
        }
        before = aborted()
        with pytest.raises(UnavailableError, match="fault filter abort"):
            calls[method]()
        assert aborted() == before + 4


def test_a_call_that_nobody_knows_and_a_deadline_of_ones_own_stay(
    way: tuple[str, Callable[[], int]],
) -> None:
    address, aborted = way
    with Client(address, proxy=False) as client:
        before = aborted()
        with pytest.raises(UnsupportedError):
            client.delete_pca("0" * 64)
        assert aborted() == before + 1
    with Client(address, timeout=2, proxy=False) as client, pytest.raises(DeadlineError):
        client.modules("torchvision/alexnet")
    assert aborted() == before + 1
