"""Memory and cores that a container, a batch job or the affinity of a process leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thingsvision_server.host import core_count, host_memory, limit_threads, quota_threads


def test_the_memory_of_a_container_counts_where_it_is_less(tmp_path: Path) -> None:
    machine = host_memory(tmp_path)

    def group(version: str, folder: str, limit: int | str, used: int, cached: int) -> None:
        name = {"1": ("limit_in_bytes", "usage_in_bytes", "total_"), "2": ("max", "current", "")}
        place = tmp_path / "sys/fs/cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        limit_name, used_name, prefix = name[version]
        (place / f"memory.{limit_name}").write_text(f"{limit}\n")
        (place / f"memory.{used_name}").write_text(f"{used}\n")
        (place / "memory.stat").write_text(f"cache 1\n{prefix}inactive_file {cached}\n")

    process = tmp_path / "proc/self/cgroup"
    process.parent.mkdir(parents=True)
    process.write_text("0::/\n")
    group("2", "", "max", 1000, 0)
    assert host_memory(tmp_path).total_bytes == machine.total_bytes
    group("2", "", 1000, 700, 100)
    assert vars(host_memory(tmp_path)) == {"total_bytes": 1000, "available_bytes": 400}
    # The tightest of the groups above counts too, and the older layout.
    process.write_text("0::/outer/inner\n")
    group("2", "outer/inner", "max", 10, 0)
    group("2", "outer", 800, 790, 0)
    assert vars(host_memory(tmp_path)) == {"total_bytes": 800, "available_bytes": 10}
    process.write_text("5:cpu:/x\n4:hugetlb,memory:/box\n")
    group("1", "memory/box", 500, 900, 0)
    assert vars(host_memory(tmp_path)) == {"total_bytes": 500, "available_bytes": 0}


def test_the_cores_of_a_container_or_a_batch_job_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: str, **files: str) -> None:
        place = tmp_path / "sys/fs/cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name.replace("cpu_", "cpu.")).write_text(f"{text}\n")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    process = tmp_path / "proc/self/cgroup"
    process.parent.mkdir(parents=True)
    process.write_text("0::/\n")
    write("", cpu_max="max 100000")
    assert (core_count(tmp_path), quota_threads(tmp_path)) == (8, 0)
    write("", cpu_max="150000 100000")
    assert (core_count(tmp_path), quota_threads(tmp_path)) == (2, 2)
    process.write_text("0::/job/step\n")
    write("", cpu_max="max 100000")
    write("job/step", cpu_max="max 100000")
    write("job", cpu_max="500000 100000")
    assert core_count(tmp_path) == 5
    write("job", cpu_max="10000 100000")
    assert core_count(tmp_path) == 1
    # The older layout, whose folder has the names of two controllers.
    process.write_text("4:memory:/x\n3:cpu,cpuacct:/box\n")
    write("cpu,cpuacct/box", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert core_count(tmp_path) == 8
    write("cpu,cpuacct/box", cpu_cfs_quota_us="300000", cpu_cfs_period_us="100000")
    threads = {"OMP_NUM_THREADS": "1"}
    limit_threads(threads, tmp_path)
    assert threads["OMP_NUM_THREADS"] == "1"
    assert threads["OPENBLAS_NUM_THREADS"] == threads["MKL_NUM_THREADS"] == "3"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert core_count(tmp_path) == 2
    limit_threads(free := {}, tmp_path)
    assert free == {}
