"""Restricts this process to some files by Landlock, and keeps it from TCP and from signals.

The numbers are those of `linux/landlock.h`; a newer version of the kernel's interface adds bits to
them. https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1

TCP_VERSION, SIGNAL_VERSION = 4, 6
"""Versions from which TCP can be denied, and signals to processes outside."""

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_FIRST_VERSION = (1 << 13) - 1
_ADDED = ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL))
"""What can be denied since which version."""

_ALL_TCP = 0b11
_ALL_SCOPES = 0b11
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
"""Accesses that a rule about a file, not a folder, may name."""

_READ = _READ_FILE | _READ_DIR
_DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL | _READ_DIR

_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/OpenCL",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/driver", "/proc/sys/vm",
    "/proc/devices", "/proc/modules",
    "/sys/fs/cgroup",
    "/sys/devices/system", "/sys/bus/pci", "/sys/devices/pci0000:00", "/sys/class/drm",
    "/sys/module/nvidia",
)  # fmt: skip
"""What libraries of numbers, and drivers of GPUs, read: nothing of users."""

_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_GPU_DEVICES = "nvidia*"


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def kernel_version() -> int:
    """Return the version of the kernel's Landlock; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION)))


def restrict(read: Iterable[str], write: Iterable[str]) -> int:
    """Restrict the calling thread and its later threads; return the version, 0 if it can't.

    Beside libraries, and devices for numbers, only these files can be read, and only these folders
    written.
    """
    version = kernel_version()
    if not version:
        return 0
    handled = _FIRST_VERSION | sum(bit for since, bit in _ADDED if version >= since)
    tcp = _ALL_TCP if version >= TCP_VERSION else 0
    scoped = _ALL_SCOPES if version >= SIGNAL_VERSION else 0
    attributes = _Ruleset(handled, tcp, scoped)
    size = 24 if scoped else 16 if tcp else 8
    ruleset = _call(
        _CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        return 0
    own = f"/proc/{os.getpid()}"
    for path in (*_SYSTEM, *_libraries(), *read, own):
        _allow(ruleset, path, _READ & handled)
    for path in (*_DEVICES, *map(str, Path("/dev").glob(_GPU_DEVICES))):
        _allow(ruleset, path, _DEVICE & handled)
    for path in write:
        _allow(ruleset, path, handled & ~_EXECUTE)
    restricted = _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)
    return version if restricted == 0 else 0


def _libraries() -> list[str]:
    """Return the folders of Python's libraries, and of packages that were imported from others."""
    prefixes = {Path(one) / "lib" for one in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    prefixes |= {Path(one) / "lib64" for one in (sys.prefix, sys.base_prefix)}
    # Where a kit of drivers says that its libraries are.
    prefixes |= {Path(one) for one in os.environ.get("LD_LIBRARY_PATH", "").split(":") if one}
    packages = set()
    for name, module in list(sys.modules.items()):
        places = list(getattr(module, "__path__", None) or ()) if "." not in name else []
        packages |= {Path(one) for one in places}
    known = [one.resolve() for one in prefixes]
    outside = {one for one in packages if not any(k in one.resolve().parents for k in known)}
    return [str(one) for one in (*prefixes, *outside)]


def _allow(ruleset: int, path: str, access: int) -> None:
    """Add a rule; a path that is not there needs none."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        is_folder = os.path.isdir(path)  # noqa: PTH112
        allowed = access if is_folder else access & _OF_FILES
        beneath = _PathBeneath(allowed, descriptor)
        _call(
            _ADD_RULE,
            *(ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH)),
            *(ctypes.byref(beneath), ctypes.c_uint32(0)),
        )
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))
