"""The helper of the MATLAB client without MATLAB: its files, and its end with its parent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.matlab_folder import Folder, started_helper, wait_for
from support.serving import TestServer
from thingsvision_client.matlab.parent import Parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    with started_helper(tmp_path_factory.mktemp("helper")) as folder:
        yield folder


def test_a_request_is_answered_and_nothing_is_left(folder: Folder, server: TestServer) -> None:
    connection = {"Server": server.address}
    answer = folder.ask("models", source="torchvision", name_glob="alexnet", connection=connection)
    assert answer["ok"], answer
    assert [one["name"] for one in answer["result"]] == ["alexnet"]
    assert folder.path.stat().st_mode & 0o777 == 0o700
    wait_for(lambda: not list(folder.path.glob("*_[0-9]*")))


@pytest.mark.parametrize(
    ("protocol", "older"), [(0, "The folder +thingsvision"), (99, "The Python package")]
)
def test_the_older_side_is_named(folder: Folder, protocol: int, older: str) -> None:
    answer = folder.ask("hello", protocol=protocol)
    assert answer["id"] == "WrongVersion"
    assert answer["message"].startswith(older)


def test_what_is_not_a_request_is_a_clear_failure(folder: Folder) -> None:
    answer = folder.ask("no such operation", connection={"Server": "127.0.0.1:1"})
    assert (answer["ok"], answer["id"]) == (False, "Failed")
    assert "no such operation" in answer["message"]
    assert folder.ask("hello")["ok"]


def test_no_server_is_an_error_of_calls_that_need_it(folder: Folder) -> None:
    answer = folder.ask("residency")
    assert answer["id"] in ("NoServer", "Unavailable")  # of the environment, if it names any


def test_a_parent_is_alive_until_it_ends(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        parent = Parent(tmp_path, process.pid)
        assert parent.is_alive()
        process.kill()
        wait_for(lambda: not parent.is_alive())  # a zombie is not alive
    assert not parent.is_alive()
    assert Parent(tmp_path, 0).is_alive()
