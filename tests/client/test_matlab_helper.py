"""The helper of the MATLAB client without MATLAB: its files, and its end with its parent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.serving import TestServer
from thingsvision_client.matlab.helper import PROTOCOL
from thingsvision_client.matlab.parent import Parent
from thingsvision_client.matlab.starting import start_helper


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Folder:
    """What MATLAB does with its private folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        self.number += 1
        content = {"op": op, "protocol": PROTOCOL, **request}
        name = f"request_{self.number}"
        (self.path / f"{name}.json").write_text(json.dumps(content))
        (self.path / f"{name}.go").touch()
        reply = self.path / f"reply_{self.number}.json"
        wait_for(reply.exists)
        answer: dict[str, Any] = json.loads(reply.read_text())
        reply.unlink()
        return answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    path = tmp_path_factory.mktemp("helper") / "private"
    path.mkdir()
    start_helper(str(path), sys.executable)
    wait_for((path / "beat").exists)
    yield Folder(path)
    (path / "stop").touch()
    wait_for(lambda: not path.exists())


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
