"""Tokens and certificates that change while the server runs, and calls run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.lab import Lab, bearer, found_lab
from support.serving import TestServer, serving
from thingsvision_client import Client
from thingsvision_client.errors import UnauthenticatedError
from thingsvision_server.access.commands import main
from thingsvision_server.access.scopes import Scope

END_SECONDS = 10


@pytest.fixture(scope="module")
def own_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab whose files these tests change."""
    return found_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def own_server(own_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with serving(tmp_path_factory.mktemp("weights"), **own_lab.server_files) as server:
        yield server


def broken_files(server: TestServer, kind: str) -> float:
    labels = {"kind": kind}
    name = "thingsvision_access_file_broken"
    found = server.running.metrics.registry.get_sample_value(name, labels)
    assert found is not None
    return found


def watch(lab: Lab, server: TestServer, token: str) -> Any:
    """Start a call that lasts until it is ended, and read its first reply."""
    stub = health_pb2_grpc.HealthStub(lab.channel(server.address))
    call = stub.Watch(health_pb2.HealthCheckRequest(), metadata=bearer(token))
    assert next(call).status == health_pb2.HealthCheckResponse.SERVING
    return call


def end_of(call: Any) -> tuple[grpc.StatusCode, str, float]:
    began = time.monotonic()
    with pytest.raises(grpc.RpcError):
        next(call)
    return call.code(), call.details(), time.monotonic() - began


def test_the_streams_of_a_revoked_and_of_an_expired_token_end(
    own_lab: Lab, own_server: TestServer
) -> None:
    expires = datetime.now(timezone.utc) + timedelta(seconds=3)
    short = own_lab.add_token("ada", Scope.READ, expires=expires)
    revoked = own_lab.add_token("bob", Scope.READ)
    stays = own_lab.add_token("bob", Scope.READ)
    own_server.running.access.look()
    first, second, third = (watch(own_lab, own_server, t) for t in (short, revoked, stays))
    with pytest.raises(SystemExit):
        main(["revoke", "--tokens", str(own_lab.tokens), revoked.split("_")[1]])
    code, said, seconds = end_of(second)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "of bob was revoked on" in said
    assert seconds < END_SECONDS
    code, said, seconds = end_of(first)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "of ada expired on" in said
    assert seconds < END_SECONDS
    assert third.is_active()
    third.cancel()


def test_an_extraction_ends_with_the_error_of_its_token(
    own_lab: Lab, own_server: TestServer, photos: list[Path]
) -> None:
    """The rows that came before are kept, and the client does not try again."""
    token = own_lab.add_token("eve", Scope.READ, Scope.EXTRACT)
    own_server.running.access.look()

    def images() -> Iterator[Path]:
        yield from photos[:2]
        with pytest.raises(SystemExit):
            main(["revoke", "--tokens", str(own_lab.tokens), "--name", "eve"])
        time.sleep(4)  # the call is ended meanwhile
        yield photos[2]

    client = Client(own_server.address, token=token, ca=own_lab.ca)
    with client, pytest.raises(UnauthenticatedError, match="of eve was revoked on"):
        client.extract("torchvision/squeezenet1_1@random:0", images(), "features.0")


@pytest.mark.parametrize("attack", ["broken", "readable", "link", "gone"])
def test_a_file_that_can_not_be_used_changes_nothing_and_alarms(
    attack: str, own_lab: Lab, own_server: TestServer, tmp_path: Path
) -> None:
    token = own_lab.add_token("ada", Scope.READ)
    look = own_server.running.access.look
    look()
    assert broken_files(own_server, "tokens") == 0
    path, before = own_lab.tokens, own_lab.tokens.read_bytes()
    path.unlink()
    if attack == "broken":
        path.write_text('{"tokens": [')
        path.chmod(0o600)
    elif attack == "readable":
        path.write_text('{"version": 1}')
        path.chmod(0o644)
    elif attack == "link":
        (tmp_path / "other.json").write_text('{"version": 1}')
        (tmp_path / "other.json").chmod(0o600)
        path.symlink_to(tmp_path / "other.json")
    look()
    with Client(own_server.address, token=token, ca=own_lab.ca) as client:
        client.residency()
        assert broken_files(own_server, "tokens") == 1
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_bytes(before)
        look()
        client.residency()
    assert broken_files(own_server, "tokens") == 0


def test_certificates_are_replaced_under_load(own_lab: Lab, own_server: TestServer) -> None:
    token = own_lab.add_token("ada", Scope.READ)
    own_server.running.access.look()
    faults, counts, stop = [], [0], threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                with Client(own_server.address, token=token, ca=own_lab.ca) as client:
                    client.residency()
                    client.residency()
                counts[0] += 1
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    shown = set()
    for _ in range(5):
        own_lab.issue_server()
        own_server.running.access.look()
        shown.add(shown_certificate(own_server))
        before = counts[0]
        while counts[0] == before and not faults:
            time.sleep(0.01)
        # A key without its certificate, which is there for a moment in every replacement.
        (own_lab.folder / "server.key").write_text("not a key")
        own_server.running.access.look()
        assert broken_files(own_server, "certificates") == 1
    stop.set()
    for thread in threads:
        thread.join()
    own_lab.issue_server()
    own_server.running.access.look()
    assert faults == []
    assert counts[0] >= 5
    assert len(shown) == 5
    assert broken_files(own_server, "certificates") == 0


def shown_certificate(server: TestServer) -> str:
    import ssl

    host, _, port = server.address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))
