"""A lab, and one server with its TLS and its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.lab import Lab, found_lab
from support.serving import TestServer, serving
from thingsvision_client.commands import access
from thingsvision_client.rpc import address, credentials


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab for the tests of this folder, which add people but change nobody's."""
    return found_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="package")
def lab_server(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Iterator[TestServer]:
    """A server of the lab, by TLS and with tokens."""
    weights = tmp_path_factory.mktemp("weights")
    with serving(weights, drain_seconds=1.0, contact="Ada of the lab", **lab.server_files) as one:
        yield one


@pytest.fixture(autouse=True)
def nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the user of this machine has, or another test, must not decide."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY", "SERVER"):
        monkeypatch.setenv(f"THINGSVISION_{name}", "")
    monkeypatch.setattr(address, "_default_address", "")
    monkeypatch.setattr(credentials, "_by_address", {})
    monkeypatch.setattr(credentials, "_everywhere", credentials.Credentials())
    monkeypatch.setattr(access, "_given", {})
