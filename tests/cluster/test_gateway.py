"""Three servers behind two gateways, as deploy/envoy/ has them: who gets a call, and as whom."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from support.cluster import ENVOY_FILES, Cluster, cluster_of, named, served_by, until
from support.lab import Lab, call_outcome
from support.stock_calls import StockCaller, extraction
from thingsvision_client import Client
from thingsvision_client.errors import (
    CertificateError,
    DeadlineError,
    UnauthenticatedError,
    UnknownModelError,
)
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.access.register import CertificateGrant, Register
from thingsvision_server.access.scopes import Scope
from thingsvision_server.access.tokens_file import change_register

MODEL = "torchvision/squeezenet1_1@random:0"
NAMES = ("a", "b", "c")
SERVICE = "thingsvision.v1.FeatureService"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with cluster_of(folder, *NAMES, gateway_count=2, log_level="debug") as running:
        yield running


@pytest.fixture
def stock(cluster: Cluster) -> Iterator[StockCaller]:
    with cluster.channel() as channel:
        yield StockCaller(channel)


def test_each_model_has_its_server_at_both_gateways(cluster: Cluster, stock: StockCaller) -> None:
    with cluster.channel(1) as channel:
        other = StockCaller(channel)
        found = {}
        for number in range(24):
            model = ("x-model", f"torchvision/model{number}")
            found[number] = cluster.server_of(stock, model)
            assert cluster.server_of(stock, model) == found[number]
            assert cluster.server_of(other, model) == found[number]
    assert set(found.values()) == set(NAMES)


def test_the_parts_of_a_job_are_spread(cluster: Cluster, stock: StockCaller) -> None:
    part = (("x-model", MODEL), ("x-shard", "1/4"))
    assert {cluster.server_of(stock, *part) for _ in range(40)} == set(NAMES)


def residents(cluster: Cluster, stock: StockCaller, name: str) -> set[str]:
    """Return the seeds of the models in the memory of one server, of which it tells alone."""
    shown = (cluster.shown, named(cluster.address_of(name)))
    request = pb.GetResidencyRequest(scope=pb.RESIDENCY_SCOPE_SERVER)
    (reply,) = stock.call("GetResidency", request, shown)
    return {str(one.model.random_seed) for one in reply.models}


def test_a_server_is_named_by_its_address(cluster: Cluster, stock: StockCaller) -> None:
    for seed, name in enumerate(NAMES, 70):
        spec = pb.ModelSpec(source="torchvision", name="squeezenet1_1", random_seed=seed)
        shown = (cluster.shown, named(cluster.address_of(name)))
        stock.call("LoadModel", pb.LoadModelRequest(model=spec), shown)
    for seed, name in enumerate(NAMES, 70):
        assert {"70", "71", "72"} & residents(cluster, stock, name) == {str(seed)}


def test_only_a_server_of_the_cluster_can_be_named(cluster: Cluster, stock: StockCaller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        spellings = ("a", "", "aaaaa", "YR==", "YWF=", "YW==YW==", "===", "a-b_")
        misnamed = (("x-thingsvision-server", one) for one in spellings)
        for wrong in (named(address), *misnamed):
            refused = stock.refusal(
                "GetResidency", pb.GetResidencyRequest(), (cluster.shown, wrong)
            )
            assert refused.code is grpc.StatusCode.UNAVAILABLE
            assert "x-request-id" not in refused.trailers
        with pytest.raises(TimeoutError):
            stranger.accept()


def test_errors_of_servers_arrive_as_they_are(cluster: Cluster) -> None:
    with cluster.client() as client:
        with pytest.raises(UnknownModelError) as caught:
            client.modules("torchvision/alexnett")
        assert "Did you mean 'alexnet'" in str(caught.value)
        assert caught.value.request_id


def test_a_deadline_is_the_servers_to_keep(cluster: Cluster) -> None:
    """The gateway's own would come as a reset stream, which says nothing."""

    def silent() -> Iterator[Any]:
        time.sleep(3)
        yield from ()

    with cluster.channel() as channel:
        call = channel.stream_stream("/thingsvision.v1.FeatureService/Extract")
        replies = call(silent(), metadata=(cluster.shown,), timeout=0.5)
        with pytest.raises(grpc.RpcError) as caught:
            list(replies)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with cluster.client(timeout=0.0001) as client, pytest.raises(DeadlineError):
        client.residency()


def test_who_shows_no_token_is_refused_whatever_is_forged(
    cluster: Cluster, stock: StockCaller
) -> None:
    Lab(cluster.files, None).add_token("bob", Scope.READ)  # type: ignore[arg-type]
    forged = (
        ("x-forwarded-client-cert", 'Subject="CN=gateway,O=thingsvision"'),
        ("x-forwarded-for", "10.9.9.9"),
    )
    refused = stock.refusal("GetResidency", pb.GetResidencyRequest(), forged)
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    assert "10.9.9.9" not in "".join(one.log for one in cluster.servers.values())
    token = cluster.shown
    stock.call("GetResidency", pb.GetResidencyRequest(), (token, *forged))
    logs = "".join(one.log for one in cluster.servers.values())
    assert "10.9.9.9" not in logs


def test_a_person_may_show_a_certificate_to_the_gateway(cluster: Cluster) -> None:
    cert, key = issue(cluster.files, "eve")
    address = cluster.gateways[0].address
    with Client(address, ca=cluster.files / "ca.pem", cert=cert, key=key) as client:
        with pytest.raises(UnauthenticatedError, match="CN=eve,O=lab"):
            client.residency()
        add_certificate(cluster.files / "tokens.json", "CN=eve,O=lab")
        until(lambda: can_call(client), "the servers read the tokens file again")


def can_call(client: Client) -> bool:
    try:
        client.residency()
    except UnauthenticatedError:
        return False
    return True


def issue(files: Path, name: str) -> tuple[Path, Path]:
    cert, key, asked = (files / f"{name}.{end}" for end in ("pem", "key", "csr"))
    subject = ["-subj", f"/O=lab/CN={name}"]
    made = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", key]
    subprocess.run([*made, "-out", asked], check=True, capture_output=True)
    signed = ["openssl", "x509", "-req", "-in", asked, "-CA", files / "ca.pem", "-CAkey"]
    subprocess.run([*signed, files / "ca.key", "-out", cert], check=True, capture_output=True)
    return cert, key


def add_certificate(tokens: Path, subject: str) -> None:
    with change_register(tokens) as content:
        row = CertificateGrant(name="eve", scopes=(Scope.READ,), subject=subject)
        content[0] = Register.model_validate(dict(content[0]) | {"certificates": (row,)})


def test_clients_trust_the_labs_authority_alone(cluster: Cluster, tmp_path: Path) -> None:
    subprocess.run([ENVOY_FILES / "certificates", tmp_path, "x"], check=True, capture_output=True)
    address = cluster.gateways[0].address
    with Client(address, ca=tmp_path / "ca.pem") as client, pytest.raises(CertificateError):
        client.residency()


def test_servers_let_in_only_who_shows_a_certificate(cluster: Cluster) -> None:
    inside = cluster.files / "gateway" / "inside"
    pair = [inside.with_suffix(end).read_bytes() for end in (".key", ".pem")]
    for shown, code in (([], grpc.StatusCode.UNAVAILABLE), (pair, grpc.StatusCode.OK)):
        credentials = grpc.ssl_channel_credentials((cluster.files / "ca.pem").read_bytes(), *shown)
        name = [("grpc.ssl_target_name_override", "thingsvision-server")]
        with grpc.secure_channel(cluster.address_of("a"), credentials, name) as channel:
            asked = "/grpc.health.v1.Health/Check"
            assert call_outcome(channel, asked, b"", ())[0] is code


def test_headers_of_callers_do_not_steer_the_gateway(cluster: Cluster, stock: StockCaller) -> None:
    steering = (
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-retry-on", "5xx,gateway-error,reset,cancelled,internal,unavailable"),
        ("x-envoy-max-retries", "100"),
        ("x-envoy-original-path", "/quitquitquit"),
    )
    for _ in range(5):
        stock.call("GetResidency", pb.GetResidencyRequest(), (cluster.shown, *steering))
    assert '"flags":"UT"' not in cluster.gateways[0].log.read_text()


def test_a_stranger_among_the_endpoints_gets_no_call(cluster: Cluster) -> None:
    """Whoever writes an address there needs a server's certificate, too; a person's is not."""
    pair = issue(cluster.files, "mallory")
    with stranger_listening(*pair) as address:
        cluster.announce(strangers=(address,))
        failed = re.compile(rf"by_model::{address}::health_flags::\S*failed_active_hc")
        gateway = cluster.gateways[0]
        until(lambda: failed.search(gateway.page("/clusters")), "the stranger is known")
        time.sleep(2)
        assert failed.search(gateway.page("/clusters"))
        assert cluster.sent_to(set(map(cluster.address_of, NAMES)))
    cluster.settle()


@contextmanager
def stranger_listening(cert: Path, key: Path) -> Iterator[str]:
    """Serve health on a port of this machine."""
    server, servicer = grpc.server(ThreadPoolExecutor(2)), HealthServicer()
    servicer.set(SERVICE, HealthCheckResponse.SERVING)
    add_HealthServicer_to_server(servicer, server)
    pair = key.read_bytes(), cert.read_bytes()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_the_metrics_page_has_figures_and_nothing_else(cluster: Cluster) -> None:
    text = yaml.safe_load((cluster.folder / "gateway0" / "envoy.yaml").read_text())
    (port,) = (
        one["address"]["socket_address"]["port_value"]
        for one in text["static_resources"]["listeners"]
        if one["name"] == "metrics"
    )
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        assert "envoy_cluster_membership_healthy" in page.read().decode()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/quitquitquit", data=b"", timeout=10)


def test_a_model_that_is_hot_gets_more_servers(cluster: Cluster) -> None:
    """Of 12 calls at once of one model, some go to the next servers of the ring."""
    found: Counter[str] = Counter()
    over: list[Any] = []
    with cluster.channel() as channel:
        calls = channel.stream_stream("/thingsvision.v1.FeatureService/Extract")

        def silent() -> Iterator[Any]:
            yield opening
            while not over:
                time.sleep(0.05)

        opening = extraction("features.0", batch_size=1).SerializeToString()
        open_calls = []
        for _ in range(12):
            call = calls(silent(), metadata=(cluster.shown, ("x-model", MODEL)), timeout=60)
            next(call)  # the header of the reply
            open_calls.append(call)
        for call in open_calls:
            found[cluster.holder_of(call)] += 1
            call.cancel()
        over.append(True)
    assert len(found) > 1
    assert max(found.values()) <= 8, found


def test_both_gateways_know_who_served(cluster: Cluster, stock: StockCaller) -> None:
    address = served_by(stock, cluster.shown, ("x-model", "*"))
    assert address in set(map(cluster.address_of, NAMES))
