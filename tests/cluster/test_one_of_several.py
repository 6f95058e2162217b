"""Loads, pins and unloads on one server of a cluster, or on all, and what they are told of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest
from typer.testing import CliRunner

from support.small_cluster import SmallCluster, until
from thingsvision_client import Client
from thingsvision_client.cli import app
from thingsvision_client.errors import InvalidRequestError, NotResidentError
from thingsvision_proto.model_id import SERVER_KEY, server_mark
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import ModelServiceStub

MODEL = "torchvision/squeezenet1_1@random:3"


@pytest.fixture
def client(pair: SmallCluster) -> Iterator[Client]:
    with Client(pair.addresses[0]) as connected:
        yield connected
        with suppress(NotResidentError):
            connected.pin(MODEL, False, on="all")
            connected.unload(MODEL, on="all")


def holders(client: Client) -> set[str]:
    """Return the addresses of the servers that have a model in memory, as one server says it."""
    return {one.server for one in client.residency().models}


def test_one_server_tells_about_all(pair: SmallCluster, client: Client) -> None:
    found = client.residency()
    assert [one.address for one in found.servers] == pair.addresses
    assert {one.state for one in found.servers} == {"serving"}
    assert [one.server for one in found.devices] == pair.addresses
    assert any(text.startswith("torch ") for text in found.servers[1].libraries)
    assert found.servers[0].libraries == found.servers[1].libraries
    assert found.servers[1].cores == found.servers[0].cores
    assert found.servers[1].hardware == found.devices[0].hardware
    alone = client.residency("server")
    assert [one.address for one in alone.servers] == pair.addresses[:1]


def test_a_pin_on_the_other_server(pair: SmallCluster, client: Client) -> None:
    first, second = pair.addresses
    resident = client.pin(MODEL, on=second)
    assert (resident.server, resident.pinned) == (second, True)
    until(lambda: holders(client) == {second})
    (told,) = client.residency().models
    assert (told.model_sha256, told.pinned) == (resident.model_sha256, True)
    assert client.residency("server").models == ()
    with Client(second) as other:
        (own,) = other.residency("server").models
        assert (own.pinned, own.server) == (True, second)
    with pytest.raises(NotResidentError):
        client.unload(MODEL, on=first)


def test_a_load_on_all_servers(pair: SmallCluster, client: Client) -> None:
    assert client.load(MODEL, on="all").server == pair.addresses[0]
    until(lambda: holders(client) == set(pair.addresses))
    one, other = client.residency().models
    assert one.model_sha256 == other.model_sha256
    client.unload(MODEL, on=pair.addresses[0])
    # Only one has it still: that the other has not is no failure.
    assert client.unload(MODEL, on="all") == other.resident_bytes
    with pytest.raises(NotResidentError, match="Done on: none"):
        client.unload(MODEL, on="all")


def test_a_server_that_is_not_there(pair: SmallCluster, client: Client) -> None:
    with pytest.raises(InvalidRequestError, match=pair.addresses[1]):
        client.pin(MODEL, on="10.9.8.7:50051")
    machine = client.residency().servers[0].host_name
    with pytest.raises(InvalidRequestError, match="a machine with 2"):
        client.pin(MODEL, on=machine)


def test_a_server_refuses_what_is_meant_for_another(pair: SmallCluster) -> None:
    with grpc.insecure_channel(pair.addresses[0]) as channel:
        ask = ModelServiceStub(channel).GetResidency
        reply = ask(
            pb.GetResidencyRequest(), metadata=[(SERVER_KEY, server_mark(pair.addresses[0]))]
        )
        assert reply.servers[0].address == pair.addresses[0]
        for mark, code in (
            (server_mark(pair.addresses[1]), grpc.StatusCode.FAILED_PRECONDITION),
            ("10.0.0.1:50051", grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                ask(pb.GetResidencyRequest(), metadata=[(SERVER_KEY, mark)])
            assert caught.value.code() == code
        with pytest.raises(grpc.RpcError) as caught:
            ask(pb.GetResidencyRequest(scope=9))
        assert "cluster, server; got 9" in caught.value.details()


def test_commands_name_a_server(pair: SmallCluster, client: Client) -> None:
    first, second = pair.addresses

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--server", first])
        assert done.exit_code == 0, done.output
        return done.output

    assert f"of {second}" in run("pin", MODEL, "--on", second)
    until(lambda: holders(client) == {second})
    lines = run("status").splitlines()
    assert [one.split()[:2] for one in lines if one.startswith((first, second))][:2] == [
        [first, "serving"],
        [second, "serving"],
    ]
    (row,) = [one for one in lines if one.startswith(MODEL)]
    assert row.split()[1] == second
    told = json.loads(run("status", "--json"))
    assert [one["address"] for one in told["servers"]] == [first, second]
    assert "not pinned of every server" in run("pin", MODEL, "--unpin", "--on", "all")


def test_a_server_without_a_folder_is_alone(client: Client, server: object) -> None:
    with Client(server.address) as alone:  # type: ignore[attr-defined]
        found = alone.residency()
        assert [(one.address, one.state) for one in found.servers] == [("", "serving")]
        assert alone.load(MODEL, on="all").server == ""
        assert alone.unload(MODEL) > 0
