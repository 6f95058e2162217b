"""Servers of a cluster that are killed, stopped, or end as they should, as the others see it."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from support.small_cluster import SmallCluster, believe_for_seconds, small_cluster, until
from thingsvision_client import Client
from thingsvision_server.cluster.announcement import ServerState, parse_announcement
from thingsvision_server.cluster.folder import read_file

MODEL = "torchvision/squeezenet1_1@random:3"
HEALTH = health_pb2.HealthCheckResponse


def states(client: Client) -> dict[str, str]:
    return {one.address: one.state for one in client.residency().servers}


def announced(cluster: SmallCluster) -> list[ServerState]:
    files = sorted(cluster.announce_dir.glob("*.json"))
    return [parse_announcement(read_file(path)).state for path in files]


def health(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        found: int = HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status
        return found


def test_servers_that_are_killed_and_stopped(tmp_path: Path) -> None:
    before = partial(believe_for_seconds, 6.0)
    with small_cluster(tmp_path, 3, killed={1}, before=before) as cluster:
        first, killed, stopped = cluster.addresses
        with Client(first) as client:
            client.pin(MODEL, on="all")
            until(lambda: len(client.residency().models) == 3)
            cluster.servers[1].process.kill()
            cluster.servers[2].process.suspend()
            wanted = {first: "serving", killed: "silent", stopped: "silent"}
            until(lambda: states(client) == wanted)
            # Of what they hold nothing is known; and nothing is asked of them.
            assert {one.server for one in client.residency().models} == {first}
            assert {one.server for one in client.residency().devices} == {first}
            assert client.pin(MODEL, False, on="all").server == first
            cluster.servers[2].process.resume()
            until(lambda: states(client)[stopped] == "serving")
            (still,) = [one for one in client.residency().models if one.server == stopped]
            assert still.pinned
            assert states(client)[killed] == "silent"


def test_a_server_that_ends_says_so_before(tmp_path: Path) -> None:
    with small_cluster(tmp_path, lame_duck_seconds=4) as cluster:
        first, second = cluster.addresses
        process = cluster.servers[0].process
        with Client(first) as ending, Client(second) as other:
            assert health(first) == HEALTH.SERVING
            process.send_signal(signal.SIGTERM)
            until(lambda: ServerState.DRAINING in announced(cluster))
            until(lambda: health(first) == HEALTH.NOT_SERVING)
            assert states(other) == {first: "draining", second: "serving"}
            # Gateways may still send calls.
            assert ending.residency().servers[0].state == "draining"
            assert ending.load(MODEL).server == first
            until(lambda: announced(cluster) == [ServerState.SERVING])
            until(lambda: states(other) == {second: "serving"})
    assert announced(cluster) == []
