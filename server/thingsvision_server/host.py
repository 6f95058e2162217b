"""Tells how much memory and how many cores the server may use.

The control group of a container or a batch job may limit both, the process has an affinity, and
several servers of one machine may each have a share.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import psutil

_ROOT = Path("/")
_GROUPS = "sys/fs/cgroup"
_NAMES = {
    "v2": (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "v1": (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}
"""Files of a group: its limits, what it uses, and which of that the kernel can take back."""

_FINEST_SHARE = 10_000
_MOST_TEXT = 65536

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which libraries choose their number of threads when they are imported."""


@dataclass(frozen=True)
class Memory:
    """Memory, bytes: all of it, and what a process could still take of it."""

    total_bytes: int
    available_bytes: int


class _Share:
    """The share of this process, of what it could use alone."""

    value = Fraction(1)


def use_share(share: float) -> None:
    """Have this process use a share, above 0 and at most 1, of what it could use alone.

    It is of the whole process. Call this before anything asks how much there is.
    """
    # 0.3333333333333333 is a third.
    _Share.value = Fraction(share).limit_denominator(_FINEST_SHARE)


def host_memory(root: Path = _ROOT) -> Memory:
    """Return the memory of the machine, or of the container if its limit is lower: the share."""
    whole = machine_memory(root)
    total = int(whole.total_bytes * _Share.value)
    return Memory(total, min(whole.available_bytes, total))


def machine_memory(root: Path = _ROOT) -> Memory:
    """Return the memory of the machine, or of the container if its limit is lower."""
    machine = psutil.virtual_memory()
    found = [Memory(machine.total, machine.available), *_limits(root, below=machine.total)]
    return Memory(
        min(one.total_bytes for one in found), max(0, min(one.available_bytes for one in found))
    )


def core_count(root: Path = _ROOT) -> int:
    """Return how many cores this process should use at a time: its share, and at least one."""
    return share_cores(machine_core_count(root), _Share.value)


def share_cores(cores: int, share: float | Fraction) -> int:
    """Return a share of some cores, rounded down; at least one."""
    return max(1, int(cores * Fraction(share).limit_denominator(_FINEST_SHARE)))


def machine_core_count(root: Path = _ROOT) -> int:
    """Return how many cores this process may use at a time: what its affinity and its group allow.

    A quota of 1.5 cores counts as 2 cores.
    """
    quotas = [math.ceil(quota) for quota in _quotas(root)]
    return max(1, min([_affinity(), *quotas]))


def limit_threads(environment: MutableMapping[str, str], root: Path = _ROOT) -> None:
    """Have libraries start no more threads than the control group's quota or the share has cores.

    They know the affinity of the process by themselves. Call this before they are imported. A
    choice of the user stays.
    """
    if threads := quota_threads(root):
        for name in _THREADS:
            environment.setdefault(name, str(threads))


def quota_threads(root: Path = _ROOT) -> int:
    """Return the number of threads that the quota or the share asks for; 0: all cores are free."""
    cores = core_count(root)
    return cores if cores < _affinity() else 0


def _affinity() -> int:
    """Return the number of cores that the system may give this process."""
    of_process = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
    return len(of_process(0)) if of_process else os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yield how many cores each control group allows that this process is in."""
    for folder, version in _groups(root, "cpu"):
        if version == "v2":
            quota, _, period = _text(f"{folder}/cpu.max").strip().partition(" ")
        else:
            quota, period = (
                _text(f"{folder}/cpu.cfs_{name}_us").strip() for name in ("quota", "period")
            )
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            yield int(quota) / int(period)


def _limits(root: Path, *, below: int) -> Iterator[Memory]:
    """Yield the limits of each control group that this process is in, with what is left of them.

    Limits that aren't below this limit nothing; what is used of them takes long to read.
    """
    for folder, version in _groups(root, "memory"):
        limit_names, used_name, cache_name = _NAMES[version]
        for limit_name in limit_names:
            limit = _number(f"{folder}/{limit_name}")
            if limit is None or limit >= below:
                continue
            used = _number(f"{folder}/{used_name}")
            if used is not None:
                left = limit - used + _statistic(f"{folder}/memory.stat", cache_name)
                yield Memory(limit, left)


def _groups(root: Path, controller: str) -> tuple[tuple[str, str], ...]:
    """Return the folders of the groups, the innermost first, that limit what a controller counts.

    Each comes with its version.
    """
    return _groups_in(_text(f"{root}/proc/self/cgroup"), root, controller)


@lru_cache
def _groups_in(memberships: str, root: Path, controller: str) -> tuple[tuple[str, str], ...]:
    found = []
    for line in memberships.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        version = "v1" if controllers else "v2"
        # A v1 mount is called after one of its controllers, or after all of them.
        tops = dict.fromkeys((controller, controllers) if controllers else ("",))
        for top in (root / _GROUPS / name for name in tops):
            # A container sees its own group as the top, whatever the path is called outside.
            folder = top / path.strip("/")
            while folder != top and top in folder.parents:
                found.append((str(folder), version))
                folder = folder.parent
            found.append((str(top), version))
    return tuple(found)


def _number(file: str) -> int | None:
    """Return the number in a file; None if there is none (`max`: no limit)."""
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _statistic(file: str, name: str) -> int:
    values = dict(line.split() for line in _text(file).splitlines() if len(line.split()) == 2)
    return int(values.get(name, 0))


def _text(file: str) -> str:
    """Return what a file of the system says; nothing if it can't be read.

    It is read before many passes: `open` takes three times as long.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _MOST_TEXT).decode()
    except OSError:
        return ""
    finally:
        os.close(descriptor)
