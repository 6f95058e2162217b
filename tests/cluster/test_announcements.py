"""Files of announcements: who lives by them, who may write them, and what gateways are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from thingsvision_server.announcing import announced_endpoint, find_announcing_mistakes
from thingsvision_server.cluster.addresses import own_network, parse_endpoint, split_host
from thingsvision_server.cluster.announcement import (
    Announcement,
    ServerState,
    file_name,
    parse_announcement,
)
from thingsvision_server.cluster.endpoints import (
    EndpointList,
    TargetFile,
    envoy_endpoints,
    prometheus_targets,
)
from thingsvision_server.cluster.folder import (
    folder_doubts,
    folder_fault,
    remove_announcement,
    write_announcement,
)
from thingsvision_server.cluster.watch import STALE_SECONDS, AnnouncementWatch
from thingsvision_server.errors import PreconditionError
from thingsvision_server.settings import Settings

A, B = "10.0.0.1:50051", "[fd00::2]:50052"


class Clock:
    """A reader's clock, which a test sets."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Servers:
    """Servers that write their files when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.beats: dict[str, int] = {}

    def beat(
        self, *addresses: str, state: ServerState = ServerState.SERVING, process: str = "p"
    ) -> None:
        for address in addresses:
            self.beats[address] = self.beats.get(address, 0) + 1
            write_announcement(self.folder, self.announcement(address, state, process))

    def announcement(
        self, address: str, state: ServerState = ServerState.SERVING, process: str = "p"
    ) -> Announcement:
        beat, metrics = self.beats.get(address, 0), address.replace("5005", "909")
        return Announcement(address, own_network(), process, beat, state, metrics)

    def leave(self, address: str, process: str = "p") -> None:
        remove_announcement(self.folder, self.announcement(address, process=process))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "announced"
    made.mkdir(mode=0o755)
    return made


def test_who_does_not_change_is_dead_by_the_readers_clock(folder: Path) -> None:
    servers, clock = Servers(folder), Clock()
    watch = AnnouncementWatch(folder, clock)
    servers.beat(A, B)
    assert [one.is_fresh for one in watch.look()] == [True, True]
    for _ in range(4):
        clock.seconds += STALE_SECONDS / 3
        servers.beat(A)
        # The times of files are of a machine whose clock may be wrong by years.
        for path in folder.iterdir():
            os.utime(path, (0, 0) if A[:8] in path.name else (4e9, 4e9))
        seen = {one.announcement.address: one for one in watch.look()}
    assert seen[A].is_fresh
    assert seen[A].unchanged_seconds == 0
    assert not seen[B].is_fresh
    servers.beat(B)  # it was only stopped
    assert all(one.is_fresh for one in watch.look())
    # Another reader begins without knowing: it believes the files for as long.
    assert all(one.is_fresh for one in AnnouncementWatch(folder, clock).look())


def test_files_that_are_no_announcements(folder: Path, tmp_path: Path) -> None:
    servers = Servers(folder)
    servers.beat(A)
    good = (folder / file_name(A, own_network())).read_bytes()
    (folder / "text.json").write_text("no JSON")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "name.json").write_bytes(good.replace(A.encode(), b"gateway.example:50051"))
    (folder / "list.json").write_text("[1]")
    (folder / "large.json").write_bytes(b" " * (5 * 2**20))
    (folder / "link.json").symlink_to(tmp_path / "elsewhere.json")
    (tmp_path / "elsewhere.json").write_bytes(good)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "future.json").write_bytes(
        json.dumps(json.loads(good) | {"address": B, "format": 7, "more": {}}).encode()
    )
    watch = AnnouncementWatch(folder)
    assert sorted(one.announcement.address for one in watch.look()) == [A, B]


def test_a_restarted_server_keeps_its_file(folder: Path) -> None:
    servers = Servers(folder)
    servers.beat(A, process="old")
    servers.beat(A, process="new")
    servers.leave(A, process="old")
    (one,) = AnnouncementWatch(folder).look()
    assert one.announcement.process == "new"
    servers.leave(A, process="new")
    assert list(folder.iterdir()) == []
    servers.leave(A)  # gone already


def test_files_of_the_dead_go_after_an_hour(folder: Path) -> None:
    servers, clock = Servers(folder), Clock()
    watch = AnnouncementWatch(folder, clock)
    servers.beat(A, B)
    (folder / f".{file_name(A, 'x')}.new").write_text("killed while it wrote")
    watch.look()
    watch.remove_dead()
    clock.seconds += 3601
    servers.beat(B)
    watch.look()
    watch.remove_dead()
    assert [path.name for path in folder.iterdir()] == [file_name(B, own_network())]


def test_gateways_are_told_of_the_living(folder: Path, tmp_path: Path) -> None:
    servers, clock = Servers(folder), Clock()
    out = tmp_path / "eds.json"
    files = [
        TargetFile(out, lambda found: envoy_endpoints(found, "thingsvision")),
        TargetFile(tmp_path / "sd.json", prometheus_targets),
    ]
    endpoints = EndpointList(AnnouncementWatch(folder, clock), files)

    def refresh() -> list[tuple[str, str]]:
        endpoints.refresh()
        (assignment,) = json.loads(out.read_text())["resources"]
        assert assignment["cluster_name"] == "thingsvision"
        found = []
        for one in assignment["endpoints"][0]["lb_endpoints"]:
            place = one["endpoint"]["address"]["socket_address"]
            address = f"{place['address']}:{place['port_value']}"
            found.append((address, one.get("health_status", "")))
        return found

    a, b = "10.0.0.1:50051", "fd00::2:50052"
    assert refresh() == []
    servers.beat(A, B)
    assert refresh() == [(a, ""), (b, "")]
    assert json.loads((tmp_path / "sd.json").read_text())[0] == {
        "targets": ["10.0.0.1:9091"],
        "labels": {"server": A},
    }
    inode = out.stat().st_ino
    servers.beat(A, B)
    assert refresh() == [(a, ""), (b, "")]
    assert out.stat().st_ino == inode  # nothing is moved into place that gateways know
    servers.beat(B, state=ServerState.DRAINING)
    assert refresh() == [(a, ""), (b, "DRAINING")]
    servers.leave(B)
    assert refresh() == [(a, "")]
    servers.beat(B)
    assert refresh() == [(a, ""), (b, "")]
    (folder / file_name(B, own_network())).unlink()  # by hand
    assert refresh() == [(a, "")]
    servers.beat(B)
    refresh()
    clock.seconds += STALE_SECONDS
    servers.beat(A)
    assert refresh() == [(a, "")]  # B was killed
    clock.seconds += 10 * STALE_SECONDS
    assert refresh() == [(a, "")]  # the last: the folder may be what fails
    (folder / file_name(A, own_network())).unlink()
    assert refresh() == [(a, "")]  # the folder is empty: it may not be mounted
    clock.seconds += STALE_SECONDS
    assert refresh() == [(a, "")]
    again = EndpointList(AnnouncementWatch(folder, clock), files)
    again.refresh()  # of the command that was restarted meanwhile
    assert refresh() == [(a, "")]
    servers.beat(A, state=ServerState.DRAINING)
    servers.beat(B)
    assert refresh() == [(a, "DRAINING"), (b, "")]
    servers.beat(B, state=ServerState.DRAINING)
    refresh()
    servers.leave(A)
    servers.leave(B)
    assert refresh() == []  # both ended as they should


def test_pages_that_prometheus_can_reach(folder: Path) -> None:
    near = Servers(folder).announcement("127.0.0.1:50051")
    far = replace(near, address=A, network="another machine")
    found = prometheus_targets(
        [near, far, replace(far, metrics="10.0.0.1:9090"), replace(near, metrics="")]
    )
    assert [one["targets"] for one in found] == [["127.0.0.1:9091"], ["10.0.0.1:9090"]]


def test_an_address_of_another_machine_alone_is_left_out(folder: Path, tmp_path: Path) -> None:
    servers = Servers(folder)
    local = servers.announcement("127.0.0.1:50051")
    write_announcement(folder, local)
    write_announcement(folder, replace(local, network="another machine"))
    write_announcement(folder, replace(local, address="unix:/run/a.sock"))
    write_announcement(folder, replace(local, address="unix:/run/b.sock", network="x"))
    assert len(list(folder.iterdir())) == 4
    files = [TargetFile(tmp_path / "eds", lambda found: envoy_endpoints(found, "c"))]
    found = EndpointList(AnnouncementWatch(folder), files).refresh()
    assert [one.address for one in found] == ["127.0.0.1:50051", "unix:/run/a.sock"]
    text = (tmp_path / "eds").read_text()
    assert '"path": "/run/a.sock"' in text
    assert text.count('"port_value"') == 1


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_folders_that_others_may_write_to(folder: Path, tmp_path: Path) -> None:
    assert folder_fault(folder) == ""
    assert list(folder_doubts(folder)) == []

    def mistakes(**more: object) -> str:
        return " ".join(find_announcing_mistakes(Settings(announce_dir=folder, **more)))

    assert mistakes() == ""
    folder.chmod(0o777)
    assert "0777" in folder_fault(folder)
    assert "chmod o-w" in mistakes(tls_cert=tmp_path / "cert", insecure=True)
    folder.chmod(0o1777)
    assert folder_fault(folder)
    folder.chmod(0o775)
    assert folder_fault(folder) == ""
    assert "its group" in next(folder_doubts(folder))
    assert "--tls-cert" in mistakes()
    assert mistakes(tls_cert=tmp_path / "cert") == ""
    above = tmp_path / "above"
    (above / "in").mkdir(parents=True)
    above.chmod(0o777)
    assert str(above) in folder_fault(above / "in")


def test_addresses_that_are_announced(folder: Path, tmp_path: Path) -> None:
    def announced(addresses: list[str], **settings: object) -> str:
        return str(announced_endpoint(Settings(announce_dir=folder, **settings), addresses))

    assert announced(["127.0.0.1:40001"]) == "127.0.0.1:40001"
    assert announced(["[::1]:40001"], host="::1") == "[::1]:40001"
    assert announced(["x:1"], announce_address="10.1.2.3") == "10.1.2.3:1"
    assert announced(["x:1"], announce_address="10.1.2.3:77") == "10.1.2.3:77"
    assert announced(["x:1"], announce_address="[fd00::1]:77") == "[fd00::1]:77"
    assert announced(["x:1"], announce_address="localhost").endswith(":1")
    ways = {"port": 1, "mtls_port": 2, "unix": tmp_path / "s"}
    listened = ["x:1", "x:2", f"unix:{tmp_path}/s"]
    assert announced(listened, announce_address="10.1.2.3", **ways) == "10.1.2.3:2"
    gateway = {"port": 1, "unix": tmp_path / "s", "unix_gateway": True}
    assert announced([listened[0], listened[2]], **gateway) == listened[2]
    for wrong in ("10.1.2.3:0", "10.1.2.3:x", ":50051", "a:b:c", "0.0.0.0", "no.such.host.invalid"):
        with pytest.raises(PreconditionError, match="--announce-address"):
            announced(["x:1"], announce_address=wrong)
    for text in ("host:1", "10.0.0.1", "10.0.0.1:70000", "::1:50051", "unix:relative", ""):
        with pytest.raises(ValueError, match=r"must be|does not appear"):
            parse_endpoint(text)
    assert split_host("fd00::1") == ("fd00::1", 0)
    assert list(find_announcing_mistakes(Settings(announce_address="10.0.0.1"))) == [
        "--announce-address needs --announce-dir"
    ]


def test_the_command_keeps_a_file_current(folder: Path, tmp_path: Path) -> None:
    servers = Servers(folder)
    servers.beat(A)
    out = tmp_path / "envoy" / "eds.json"
    out.parent.mkdir()
    program = [sys.executable, "-m", "thingsvision_server", "endpoints"]
    with subprocess.Popen([*program, "--announce-dir", folder, "--write", out]) as running:
        try:
            deadline = time.monotonic() + 60
            for address in (A, B):
                servers.beat(address)
                port = parse_endpoint(address).port
                while not (out.exists() and f'"port_value": {port}' in out.read_text()):
                    assert time.monotonic() < deadline
                    assert running.poll() is None
                    time.sleep(0.1)
        finally:
            running.terminate()
    assert parse_announcement((folder / file_name(A, own_network())).read_bytes()).address == A
