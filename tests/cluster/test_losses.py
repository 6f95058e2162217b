"""What a loss in the cluster costs: the streams of a server that died, and nothing else."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.cluster import Cluster, cluster_of, until
from support.cluster_load import MODELS, MODULE, load
from support.stock_calls import StockCaller, extraction, image
from thingsvision_client.errors import UnavailableError
from thingsvision_proto.v1 import thingsvision_pb2 as pb

NAMES = ("a", "b", "c")
READER_COUNT = 24
WIDE = 12
"""Images of a sleeping reader's call: 38 MB of features, more than all buffers on the way hold."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    options = {"drain_seconds": 10, "log_level": "warning"}
    with cluster_of(folder, *NAMES, gateway_count=2, **options) as started:
        yield started


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """The three servers; a test may end some of them."""
    running.bring_back(*NAMES)
    return running


@pytest.fixture
def stock(cluster: Cluster) -> Iterator[StockCaller]:
    with cluster.channel() as channel:
        yield StockCaller(channel)


def server_for(cluster: Cluster, stock: StockCaller, model: str = MODELS[0]) -> str:
    return cluster.server_of(stock, ("x-model", model))


@contextmanager
def open_call(cluster: Cluster, model: str = MODELS[0], **options: Any) -> Iterator[Any]:
    """Hold a call of Extract whose client sends nothing after the header of the reply."""
    over = threading.Event()
    seed = int(model.rpartition(":")[2])
    spec = pb.ModelSpec(source="torchvision", name="squeezenet1_1", random_seed=seed)

    def requests() -> Iterator[Any]:
        yield extraction(MODULE, model=spec, batch_size=1)
        over.wait(60)

    with cluster.channel() as channel:
        stock, metadata = StockCaller(channel), (cluster.shown, ("x-model", model))
        call = stock.start("Extract", requests(), metadata)
        next(call)
        yield call
        over.set()


def test_a_killed_server_costs_its_streams_alone(
    cluster: Cluster, stock: StockCaller, photos: list[Path]
) -> None:
    with load(cluster, photos) as calls, open_call(cluster) as cut, ExitStack() as stack:
        victim = cluster.holder_of(cut)  # a model that is hot has several
        kept = next(
            call for call in open_calls(cluster, stack) if cluster.holder_of(call) != victim
        )
        cluster.end(victim)
        ended = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            next(cut)
        assert "x-request-id" not in dict(caught.value.trailing_metadata() or ())
        calls.wait_for(30)
        assert server_for(cluster, stock) != victim
        assert kept.is_active()
        kept.cancel()
    # A reply that had begun is lost with its server: of each thread at most one. No other call is.
    assert all("lost before the reply was complete" in one for one in calls.failures)
    assert all(began < ended for began in calls.failures_began)
    assert len(set(calls.failed_threads)) == len(calls.failures)


def open_calls(cluster: Cluster, stack: ExitStack) -> Iterator[Any]:
    """Open calls of one model after the other."""
    for model in MODELS[1:]:
        yield stack.enter_context(open_call(cluster, model))


def test_a_killed_server_is_not_asked_again(
    cluster: Cluster, stock: StockCaller, photos: list[Path]
) -> None:
    """Calls that reach no server any more are sent to another, by the gateway: no call fails."""
    metadata = (cluster.shown, ("x-model", MODELS[1]))
    victim = server_for(cluster, stock, MODELS[1])
    cluster.end(victim)
    for _ in range(40):
        stock.call("GetResidency", pb.GetResidencyRequest(), metadata)
        time.sleep(0.01)


def test_a_server_that_is_told_to_stop_loses_no_call(
    cluster: Cluster, stock: StockCaller, photos: list[Path]
) -> None:
    victim = server_for(cluster, stock)
    with load(cluster, photos) as calls:
        cluster.end(victim, signal.SIGTERM)
        calls.wait_for(30)
        assert cluster.sent_to(set(map(cluster.address_of, cluster.servers)))
    assert not calls.failures


def test_a_stopped_server_is_left_within_seconds(
    cluster: Cluster, stock: StockCaller, photos: list[Path]
) -> None:
    victim = server_for(cluster, stock)
    process = cluster.servers[victim].process
    process.send_signal(signal.SIGSTOP)
    try:
        others = {cluster.address_of(one) for one in NAMES if one != victim}
        assert until(lambda: cluster.sent_to(others), "the gateways leave it") < 8
        with cluster.client(timeout=20) as client:
            client.extract(MODELS[0], photos[-1:], MODULE)
    finally:
        process.send_signal(signal.SIGCONT)
    until(lambda: cluster.sent_to(set(map(cluster.address_of, NAMES))), "it is back")


def test_an_endpoint_that_leaves_and_returns_costs_nothing(
    cluster: Cluster, stock: StockCaller, photos: list[Path]
) -> None:
    leaver = server_for(cluster, stock)
    rest = [one for one in NAMES if one != leaver]
    with load(cluster, photos) as calls, open_call(cluster) as stream:
        cluster.settle(*rest)
        assert server_for(cluster, stock) in rest
        calls.wait_for(12)
        cluster.settle()
        calls.wait_for(12)
        assert stream.is_active()
        stream.cancel()
    assert not calls.failures
    # While calls run, those of a model whose server has more than its share go to another server.
    until(lambda: not cluster.gateways[0].running_count(), "all calls have ended")
    assert server_for(cluster, stock) == leaver, "its models are there again"


def test_sleeping_readers_hold_up_nobody(
    cluster: Cluster, stock: StockCaller, photos: list[Path]
) -> None:
    picture = photos[-1].read_bytes()

    def requests() -> Iterator[Any]:
        yield extraction(MODULE)
        yield from (image(place, f"{place}", picture) for place in range(WIDE))

    with cluster.channel() as channel, ExitStack() as stack:
        sleeping = StockCaller(channel)  # all on one connection
        metadata = (cluster.shown, ("x-model", MODELS[0]))
        for _ in range(READER_COUNT):
            call = sleeping.start("Extract", requests(), metadata)
            stack.callback(call.cancel)
            next(call)
        with cluster.client() as client:
            client.extract(MODELS[0], photos[-1:], MODULE)
            began = time.monotonic()
            for _ in range(5):
                client.extract(MODELS[0], photos[-1:], MODULE)
            assert (time.monotonic() - began) / 5 < 3


def test_a_call_that_may_end_servers_is_not_made_a_third_time(
    cluster: Cluster, stock: StockCaller
) -> None:
    first = server_for(cluster, stock)
    for name in NAMES:  # who is stopped takes a call, and does not answer it
        cluster.servers[name].process.send_signal(signal.SIGSTOP)
    failures: list[BaseException] = []

    def call() -> None:
        with cluster.client() as client:
            try:
                client.load(MODELS[0])
            except UnavailableError as error:
                failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.5)
    cluster.end(first)
    time.sleep(0.7)
    for name in [*cluster.servers]:
        cluster.end(name)
    thread.join()
    assert "which is not made again" in str(failures[0])


def test_without_any_server_a_call_ends_with_a_sentence(cluster: Cluster) -> None:
    for name in NAMES:
        cluster.end(name)
    with cluster.client() as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="no healthy upstream"):
            client.residency()
        assert time.monotonic() - began < 15
    cluster.start("a")
    cluster.settle()
    with cluster.client() as client:
        client.residency()
