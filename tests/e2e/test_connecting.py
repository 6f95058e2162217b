"""Servers that can't be reached: the first call says so in time, and what to do about proxies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from grpc._cython import cygrpc
from typer.testing import CliRunner

from support.broken_network import proxy
from support.dead_ends import closed_port, filtered_port, name_server, silent_port
from support.long_extractions import MODULES, SMALL, SQUEEZENET
from support.serving import TestServer
from thingsvision_client import Client, connect
from thingsvision_client.cli import app
from thingsvision_client.client import shared_client
from thingsvision_client.errors import DeadlineError, ThingsvisionError, UnavailableError
from thingsvision_client.rpc import address, channel, proxies
from thingsvision_server.rpc.server import _channel_options

FIRST_CALL_SECONDS = 20
NOTICE_SECONDS = 60


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of this machine says about proxies must not decide."""
    for name in (*proxies._PROXY_VARIABLES, *proxies._EXCLUDING_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(address, "_default_address", "")
    monkeypatch.setattr(proxies, "_direct_addresses", set())


def failure(client: Client) -> tuple[ThingsvisionError, float]:
    """Return how a first call fails, and after how many seconds."""
    started = time.monotonic()
    with client, pytest.raises(ThingsvisionError) as caught:
        client.residency()
    return caught.value, time.monotonic() - started


def test_the_first_call_fails_in_time_wherever_nothing_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as dead, ThreadPoolExecutor() as pool:
        silent = dead.enter_context(silent_port())
        filtered = dead.enter_context(filtered_port())
        names = dead.enter_context(name_server(answers=False))
        servers = [
            f"127.0.0.1:{silent}",
            f"127.0.0.1:{filtered}",
            f"localhost:{filtered}",
            f"dns://{names}/gpu.example.org:50051",
        ]
        clients = [Client(server) for server in servers]
        for port in (silent, filtered):
            with monkeypatch.context() as environment:
                environment.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
                clients.append(Client("gpu.example.org:50051"))
        for client, (error, seconds) in zip(clients, pool.map(failure, clients), strict=True):
            assert type(error) is UnavailableError
            assert f"No THINGSvision server answers at {client.server}" in str(error)
            assert seconds < FIRST_CALL_SECONDS, client.server
            is_proxied = client.server.startswith("gpu")
            assert ("the environment variable http_proxy is set" in str(error)) is is_proxied
            assert "secret" not in str(error)


def test_the_message_names_the_variable_and_two_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "intranet")
        error, _ = failure(Client("gpu.example.org:50051"))
    for part in (
        f"the proxy http://127.0.0.1:{port}",
        "variable http_proxy is set",
        "connect('gpu.example.org:50051', proxy=False)",
        "grpc.enable_http_proxy=0",
        "export no_proxy='intranet,gpu.example.org'",
    ):
        assert part in str(error)


def test_of_several_variables_the_one_that_grpc_reads_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(variable, f"http://{variable}:3128")
        advice = proxies.find_route("gpu:50051", proxy=True).advice()
        assert f"the proxy http://{variable}:3128" in advice
        assert f"variable {variable} is set" in advice


@pytest.fixture
def gpu(server: TestServer) -> Iterator[str]:
    """The shared server by the name of a host that is not this machine's."""
    port = server.address.rsplit(":", 1)[1]
    with name_server(answers=True) as names:
        yield f"dns://{names}/gpu.example.org:{port}"


def test_connect_without_a_proxy(monkeypatch: pytest.MonkeyPatch, gpu: str) -> None:
    with closed_port() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(UnavailableError, match="http_proxy is set"):
            connect(gpu).residency()
        assert connect(gpu, proxy=False).residency().devices
        assert shared_client().residency().devices
        with Client() as client, Client(gpu) as named:
            assert client.residency().devices
            assert named.residency().devices
        with pytest.raises(UnavailableError, match="http_proxy is set"):
            connect(gpu).residency()


@pytest.mark.parametrize("flag_first", [True, False])
def test_commands_connect_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, gpu: str, flag_first: bool
) -> None:
    monkeypatch.setattr(proxies, "_direct_addresses", set())
    with closed_port() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        failed = CliRunner().invoke(app, ["status", "--server", gpu])
        assert "--no-proxy" in str(failed.exception)
        words = ["--no-proxy", "status"] if flag_first else ["status", "--no-proxy"]
        found = CliRunner().invoke(app, [*words, "--server", gpu])
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY", "no_grpc_proxy"])
@pytest.mark.parametrize(
    "excluded", ["gpu.example.org", ".example.org", "*.example.org", "a.b, example.org", "*"]
)
def test_hosts_in_no_proxy_are_called_directly(
    monkeypatch: pytest.MonkeyPatch, gpu: str, variable: str, excluded: str
) -> None:
    with closed_port() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv(variable, excluded)
        with Client(gpu) as client:
            assert client.residency().devices


@pytest.mark.parametrize("excluded", ["gpu.example.com", "example", "10.0.0.0/8", ":50051", ","])
def test_other_hosts_in_no_proxy_do_not_count(
    excluded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", excluded)
    assert not proxies.find_route("gpu.example.org:50051", proxy=True).is_direct


def test_networks_in_no_proxy_cover_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,2001:db8::/32")
    routes = [
        proxies.find_route(server, proxy=True).is_direct
        for server in ("10.1.2.3:50051", "[2001:db8::7]:50051", "11.1.2.3:50051")
    ]
    assert routes == [True, True, False]


def test_a_server_on_this_machine_needs_no_proxy(
    monkeypatch: pytest.MonkeyPatch, server: TestServer
) -> None:
    port = server.address.rsplit(":", 1)[1]
    with closed_port() as closed:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed}")
        for host in ("127.0.0.1", "localhost"):
            with Client(f"{host}:{port}") as client:
                assert client.residency().devices
        error, _ = failure(Client(f"127.0.0.1:{closed}"))
    assert "The proxy of http_proxy was not used: the server is on this machine" in str(error)


def test_a_timeout_without_a_connection_is_told_from_a_slow_server() -> None:
    with silent_port() as port:
        error, seconds = failure(Client(f"127.0.0.1:{port}", timeout=1))
    assert type(error) is DeadlineError
    assert "There was no connection to 127.0.0.1" in str(error)
    assert seconds < 8


def test_time_for_connecting_ends_where_grpc_sets_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with name resolvers of the system, which wait as long as they like."""
    monkeypatch.setattr("thingsvision_client.rpc.attempts.CONNECTING_SECONDS", 2.0)
    with silent_port() as port:
        error, seconds = failure(Client(f"127.0.0.1:{port}"))
    assert type(error) is UnavailableError
    assert "no connection within" in str(error)
    assert 1.5 < seconds < 8


def test_a_server_that_comes_back_is_found_by_the_same_call(server: TestServer) -> None:
    with proxy() as network, ThreadPoolExecutor() as pool, Client(network.address) as client:
        found = pool.submit(client.residency)
        time.sleep(0.5)
        network.target = server.address
        assert found.result(20).devices


def test_both_sides_agree_how_often_a_quiet_connection_is_tested() -> None:
    client, server = dict(channel.OPTIONS), _channel_options(1)
    every, wait = client["grpc.keepalive_time_ms"], client["grpc.keepalive_timeout_ms"]
    assert server["grpc.http2.min_ping_interval_without_data_ms"] <= every // 2
    assert every + wait < NOTICE_SECONDS * 1000
    assert client["grpc.http2.ping_timeout_ms"] == wait
    assert server["grpc.http2.ping_timeout_ms"] == server["grpc.keepalive_timeout_ms"]
    assert client["grpc.http2.max_pings_without_data"] == 0, "a quiet call is tested to its end"


def test_grpc_knows_the_names_of_all_options() -> None:
    """It ignores names that it does not know."""
    library = Path(cygrpc.__file__).read_bytes()
    for name in [*dict(channel.OPTIONS), "grpc.enable_http_proxy", *_channel_options(1)]:
        assert name.encode() + b"\0" in library, name


@pytest.mark.timeout(600)
def test_a_connection_that_dies_in_a_job_is_noticed(
    request: pytest.FixtureRequest, server: TestServer, photos: list[Path]
) -> None:
    if not request.config.getoption("--all"):
        pytest.skip("takes four minutes: pass --all")
    silent_since = 0.0
    with proxy() as network, Client(network.address) as client:
        network.target = server.address

        def images() -> Iterator[tuple[str, bytes]]:
            nonlocal silent_since
            yield "first", photos[0].read_bytes()
            time.sleep(140)  # quiet: only tests of the connection go back and forth
            silent_since = time.monotonic()
            network.fall_silent()
            yield "second", photos[1].read_bytes()

        rows = client.stream(SQUEEZENET, images(), MODULES, batch_size=1, preprocessing=SMALL)
        assert rows.provenance.model == SQUEEZENET
        with pytest.raises(UnavailableError, match="was lost before the reply was complete"):
            list(rows)
        assert 0 < time.monotonic() - silent_since < NOTICE_SECONDS
