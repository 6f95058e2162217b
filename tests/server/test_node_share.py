"""Several servers of a machine divide its memory and cores by `--node-share`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from support.server_process import server_process
from support.small_cluster import until
from thingsvision_client import Client
from thingsvision_server.host import (
    core_count,
    host_memory,
    limit_threads,
    machine_core_count,
    machine_memory,
    use_share,
)
from thingsvision_server.settings import Settings
from thingsvision_server.settings.sentences import size_of


@pytest.fixture(autouse=True)
def whole_machine() -> Iterator[None]:
    yield
    use_share(1)


@pytest.mark.parametrize(
    ("written", "share"), [("1/8", 0.125), ("0.25", 0.25), (" 1 / 3", 1 / 3), (0.5, 0.5), ("1", 1)]
)
def test_shares_that_are_taken(written: object, share: float) -> None:
    assert Settings(node_share=written).node_share == share


@pytest.mark.parametrize("written", ["0", "9/8", "1/0", "an eighth", "-1/8", "nan", "1:8", ""])
def test_shares_that_are_refused(written: str) -> None:
    with pytest.raises(ValidationError):
        Settings(node_share=written)


def test_cores_are_divided_within_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    for share, cores in (("1/8", 1), ("1/3", 4), ("1/2", 6), ("1", 12), ("1/100", 1)):
        chosen = Settings(node_share=share)
        use_share(chosen.node_share or 0)
        assert core_count(tmp_path) == chosen.decode_threads == cores
        assert chosen.cpu_lanes == min(4, cores)
        limit_threads(threads := {}, tmp_path)
        assert threads.get("OMP_NUM_THREADS") == (None if cores == 12 else str(cores))
    own = Settings(node_share="1/8", decode_threads=7)
    assert (own.decode_threads, own.cpu_lanes) == (7, 1)
    # What follows from the share is no choice of the user's.
    assert own.model_fields_set == {"node_share", "decode_threads"}
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("400000 100000\n")
    use_share(0.5)
    assert (machine_core_count(tmp_path), core_count(tmp_path)) == (4, 2)


def test_memory_is_divided_within_the_limits_of_the_group(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    for name, text in (("max", "8000"), ("current", "7500"), ("stat", "inactive_file 100\n")):
        (group / f"memory.{name}").write_text(text)
    use_share(0.25)
    assert vars(host_memory(tmp_path)) == {"total_bytes": 2000, "available_bytes": 600}
    use_share(0.05)
    assert vars(host_memory(tmp_path)) == {"total_bytes": 400, "available_bytes": 400}
    assert machine_memory(tmp_path).total_bytes == 8000


def test_a_server_says_what_came_out(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('node_share = "1/2"\n')
    with server_process(tmp_path, config=file) as server:
        until(lambda: '"event": "started"' in server.log or '"started"' in server.log)
        line = next(one for one in server.log.splitlines() if '"started"' in one)
        said = json.loads(line)
        whole = machine_memory().total_bytes
        half = size_of(int(whole * 0.5))
        assert said["budget"].endswith(f"RAM: {half}, 1/2 of {size_of(whole)}")
        assert f"{size_of(int(whole * 0.5) // 2)} for an RDM" in said["budget"]
        cores = machine_core_count()
        mine = max(1, cores // 2)
        wanted = f"{mine}, 1/2 of {cores}; lanes: {min(4, mine)}, threads that decode: {mine}"
        assert said["cores"] == wanted
        with Client(server.address) as client:
            (device,) = client.residency().devices
            assert device.lane_count == min(4, mine)
            assert device.budget_bytes <= whole // 4
        assert server.figure("thingsvision_device_memory_total_bytes") == whole
