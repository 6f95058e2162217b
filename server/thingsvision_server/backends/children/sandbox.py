"""Takes from this process all that a guest does not need: files, network, other processes.

The kernel's own means are called directly, as there is no library for all of them: Landlock
(files, TCP, signals), seccomp (system calls), namespaces (network), capabilities and limits. What a
kernel or a container does not allow is left out, and what could be had is returned.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import landlock, seccomp

_PR_SET_NO_NEW_PRIVS, _UNUSED = 38, (0, 0, 0)
_CAPABILITY_VERSION_3 = 0x20080522
_READ_ANY_FILE = 1 << 2
"""CAP_DAC_READ_SEARCH, without which root could not read files that other users keep to themselves;
Landlock still says which files."""

_NEW_USER, _NEW_IPC, _NEW_NET = 0x10000000, 0x08000000, 0x40000000
_OUTPUT_BYTES = 4 * 1024**2
_MAX_FILES = 1024

WHAT = FILES, NETWORK, PROCESSES = "files", "network", "processes"
"""What a guest is kept from, beside its own."""


@dataclass(frozen=True)
class Rules:
    """What a guest may have."""

    read: tuple[str, ...] = ()
    """Files that it may read, beside the libraries and devices that frameworks need."""
    write: tuple[str, ...] = ()
    """Folders that it may use as it likes."""
    memory_bytes: int = 0
    """Most memory of its own; 0: no limit."""
    file_bytes: int = _OUTPUT_BYTES
    """Longest file that it may write."""


def confine(rules: Rules) -> dict[str, str]:
    """Confine this process, which must have one thread; return by what each thing is denied."""
    _limit(rules)
    if sys.platform != "linux":
        return {}
    library = ctypes.CDLL(None, use_errno=True)
    denied: dict[str, list[str]] = {FILES: [], NETWORK: [], PROCESSES: []}
    if _leave_network(library):
        denied[NETWORK].append("namespace")
    library.prctl(_PR_SET_NO_NEW_PRIVS, 1, *_UNUSED)
    _drop_capabilities(library)
    version = landlock.restrict(rules.read, rules.write)
    name = f"Landlock {version}"
    denied[FILES] += [name] * (version >= 1)
    denied[NETWORK] += [name] * (version >= landlock.TCP_VERSION)
    denied[PROCESSES] += [name] * (version >= landlock.SIGNAL_VERSION)
    if seccomp.deny():
        denied[NETWORK].append("seccomp")
        denied[PROCESSES].append("seccomp")
    return {what: ", ".join(means) for what, means in denied.items()}


def available() -> dict[str, str]:
    """Return what `confine` can deny here and by what, without confining; empty: nothing."""
    if sys.platform != "linux":
        return {}
    version = landlock.kernel_version()
    name = f"Landlock {version}"
    filters = ["seccomp"] if seccomp.is_available() else []
    denied = {
        FILES: [name] * (version >= 1),
        NETWORK: [name] * (version >= landlock.TCP_VERSION) + filters,
        PROCESSES: [name] * (version >= landlock.SIGNAL_VERSION) + filters,
    }
    return {what: ", ".join(means) for what, means in denied.items() if means}


def _limit(rules: Rules) -> None:
    """Set the limits of the system; the kernel ends a guest first when memory runs out."""
    import resource

    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, rules.file_bytes)
    _lower(resource.RLIMIT_NOFILE, _MAX_FILES)
    if rules.memory_bytes and sys.platform == "linux":
        # Allocations fail before the watch ends the process: a smaller batch may still fit.
        _lower(resource.RLIMIT_DATA, data_bytes() + rules.memory_bytes)


def _lower(limit: int, value: int) -> None:
    import resource

    _, most = resource.getrlimit(limit)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(limit, (value, value))


def data_bytes() -> int:
    """Return the private memory that this process may write, touched or not, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))


def _leave_network(library: ctypes.CDLL) -> bool:
    """Move into a network of its own, without devices; root needs no namespace of users for it."""
    alone = _NEW_NET | _NEW_IPC
    return any(library.unshare(flags) == 0 for flags in (alone, alone | _NEW_USER))


def _drop_capabilities(library: ctypes.CDLL) -> None:
    kept = _READ_ANY_FILE if os.geteuid() == 0 else 0
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(kept, kept)
    if library.capset(header, sets) != 0 and kept:
        library.capset(header, (ctypes.c_uint32 * 6)())
