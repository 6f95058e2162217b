"""`doctor` says on one screen what works, and what to do about the first thing that does not."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from typer.testing import CliRunner, Result

from support.dead_ends import closed_port
from support.serving import TestServer
from thingsvision_client import Client
from thingsvision_client.cli import app
from thingsvision_client.rpc import address, proxies

NAMES = ["address", "proxy", "TLS", "client", "connection", "device", "weights", "server", "image"]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says about servers and proxies must not decide."""
    monkeypatch.setattr(address, "_default_address", "")
    for name in (*proxies._PROXY_VARIABLES, *proxies._EXCLUDING_VARIABLES, "THINGSVISION_SERVER"):
        monkeypatch.delenv(name, raising=False)


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_everything_is_on_one_screen(server: TestServer, client: Client) -> None:
    before = [one.model_id for one in client.residency().models]
    done = doctor("--server", server.address)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == NAMES
    assert all(line.startswith("ok ") for line in lines[:-1])
    assert lines[-1] == "Everything works."
    assert f"{server.address}, from --server" in done.stdout
    assert f"thingsvision-client {version('thingsvision-service')}" in done.stdout
    assert f"thingsvision-server {version('thingsvision-service')}, torch" in done.stdout
    assert "1,742 models" in done.stdout or " models have theirs here" in done.stdout
    resident = [one.model_id for one in client.residency().models]
    assert set(resident) <= set(before), "what it loaded stays"


def test_the_same_as_json(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGSVISION_SERVER", server.address)
    found = json.loads(doctor("--json").stdout)
    assert [one["name"] for one in found] == NAMES
    assert found[0]["text"] == f"{server.address}, from THINGSVISION_SERVER"


def failed(*arguments: str) -> str:
    done = doctor(*arguments)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[-2].startswith("FAILED")
    assert lines[-1].strip().startswith("next step:")
    assert "Everything works" not in done.stdout
    return done.stdout


def test_a_missing_server_has_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        said = failed("--server", f"127.0.0.1:{port}")
        assert "FAILED connection" in said
        assert "--host 0.0.0.0" in said
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        said = failed("--server", "gpu.example.org")
    assert f"http://127.0.0.1:{port}, because http_proxy is set" in said
    assert "secret" not in said
    assert "export THINGSVISION_SERVER=host:port" in failed()
    assert "leave out what follows the port" in failed("--server", "https://gpu/v1")


def test_a_model_that_can_not_be_used_has_a_next_step(server: TestServer) -> None:
    said = failed("--server", server.address, "--model", "torchvision/alexnet")
    assert "WeightsMissingError" in said
    assert "@random:0" in said
    assert "`thingsvision-client models`" in failed("--server", server.address, "--model", "alexnt")
