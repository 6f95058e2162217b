"""A folder of announcements that fails keeps no server from working, and the server comes back."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.server_process import server_process
from support.serving import serving
from support.small_cluster import until
from thingsvision_client import Client
from thingsvision_server.announcing import check_announcing
from thingsvision_server.cluster import watch
from thingsvision_server.cluster.endpoints import EndpointList, TargetFile, envoy_endpoints
from thingsvision_server.cluster.folder import read_file
from thingsvision_server.cluster.watch import AnnouncementWatch
from thingsvision_server.errors import PreconditionError
from thingsvision_server.settings import Settings

MODEL = "torchvision/squeezenet1_1@random:3"


def test_a_folder_that_does_not_answer_holds_no_calls(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def read(path: Path) -> bytes:
        assert answers.wait(120)
        return read_file(path)

    monkeypatch.setattr(watch, "read_file", read)
    with (
        serving(tmp_path / "weights", announce_dir=tmp_path / "announced") as server,
        Client(server.address) as client,
        ThreadPoolExecutor(40) as threads,
    ):
        try:
            # More than the server has threads for calls that wait.
            asked = [threads.submit(client.residency) for _ in range(40)]
            assert {one.result(60).servers[0].state for one in asked} == {"serving"}
            assert client.extract(MODEL, photos[:1], "features.12").images
            found = client.residency()
            assert found.servers[0].address == server.running.address
            assert [one.name for one in found.people] == ["ipv4:127.0.0.1"]
        finally:
            answers.set()
        # All users of the machine may read the file, so it has no names of people.
        (made,) = (tmp_path / "announced").iterdir()
        until(lambda: '"person_count": 1' in made.read_text(), 10)
        assert "ipv4" not in made.read_text()


def test_a_folder_that_is_gone_for_a_while(tmp_path: Path) -> None:
    folder = tmp_path / "announced"
    with (
        serving(tmp_path / "weights", announce_dir=folder, drain_seconds=0) as server,
        Client(server.address) as client,
    ):
        (made,) = folder.iterdir()
        shutil.rmtree(folder)
        assert client.load(MODEL, on="all").server == server.running.address
        until(lambda: client.residency().servers[0].state == "serving", 10)
        folder.mkdir()
        until(made.exists)
    assert list(folder.iterdir()) == []


def test_a_server_on_a_socket(tmp_path: Path) -> None:
    path, folder = tmp_path / "run" / "tv.sock", tmp_path / "announced"
    path.parent.mkdir(mode=0o700)
    with server_process(tmp_path, port=None, unix=path, announce_dir=folder) as server:
        assert server.address == f"unix:{path}"
        with Client(server.address) as client:
            assert client.residency().servers[0].address == server.address
            # Gateways name it by its path alone.
            assert client.load(MODEL, on=server.address).server == server.address
        files = [TargetFile(tmp_path / "eds", lambda found: envoy_endpoints(found, "c"))]
        EndpointList(AnnouncementWatch(folder), files).refresh()
        assert f'"path": "{path}"' in (tmp_path / "eds").read_text()


def test_a_server_in_an_open_folder_does_not_start(tmp_path: Path) -> None:
    folder = tmp_path / "announced"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PreconditionError, match="0777: chmod o-w"):
        check_announcing(Settings(announce_dir=folder))
