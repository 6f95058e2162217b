"""A gateway that learns of servers by their announcements, and calls to one of them through it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from support.cluster import Cluster, cluster_of, until
from thingsvision_client import Client

MODEL = "torchvision/squeezenet1_1@random:3"


@contextmanager
def listing(folder: Path, file: Path) -> Iterator[None]:
    """Run the command that keeps a gateway's list of servers."""
    program = [sys.executable, "-m", "thingsvision_server", "endpoints"]
    with subprocess.Popen([*program, "--announce-dir", folder, "--write", file]) as running:
        try:
            yield
        finally:
            running.terminate()


def holders(client: Client) -> set[str]:
    return {one.server for one in client.residency().models}


def healthy(cluster: Cluster) -> set[str]:
    return cluster.gateways[0].healthy()


def test_a_gateway_follows_the_announcements(tmp_path: Path, photos: list[Path]) -> None:
    announced = tmp_path / "announced"
    options = {"announce_dir": announced, "lame_duck_seconds": 3}
    with cluster_of(tmp_path, "a", "b", **options) as cluster:
        first, second = map(cluster.address_of, ("a", "b"))
        file = cluster.files / "gateway" / "endpoints" / "endpoints.json"
        # What an operator wrote by hand is replaced.
        cluster.settle("a")
        with listing(announced, file), cluster.client() as client:
            until(lambda: healthy(cluster) == {first, second}, "both are found", 60)
            # By one's own token, through the gateway, to each server that is named.
            for address in (first, second):
                assert client.pin(MODEL, on=address).server == address
                until(lambda: address in holders(client), "the pin is told")  # noqa: B023
                client.pin(MODEL, False, on=address)
                assert client.unload(MODEL, on=address) > 0
            client.load(MODEL, on="all")
            until(lambda: holders(client) == {first, second}, "the loads are told")
            cluster.start("c")
            third = cluster.address_of("c")
            until(lambda: third in healthy(cluster), "a server joins")
            # One ends as it should: no call fails, and it leaves the list.
            with ThreadPoolExecutor() as threads:
                ended = threads.submit(cluster.end, "a", signal.SIGTERM)
                while not ended.done():
                    assert client.extract(MODEL, photos[:1], "features.12").images
            until(lambda: first.split(":")[1] not in file.read_text(), "it leaves the list")
            assert healthy(cluster) == {second, third}
            assert client.residency().servers[0].address in (second, third)
            states = {one.address: one.state for one in client.residency().servers}
            assert states == {second: "serving", third: "serving"}
