"""Systems that run out of something while a server runs: disk, open files, or threads."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _RECURSIVE = 1 << 18, 1 << 14
_KEEP_CAPABILITIES, _CAPABILITY_VERSION = 8, 0x20080522
_FILES_OF_OTHERS = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""

_OBEY_SECONDS = 10

_ANOTHER_USER = 47_291
"""A number that no user has."""


def mount_small_disks(sizes: Mapping[Path, int]) -> None:
    """Give this process, and its children, an empty disk of so many bytes at each folder.

    Raises OSError where the system does not let a process have mounts of its own.
    """
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_NEW_MOUNTS | (0 if user == 0 else _NEW_USER)))
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _check(libc.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None))
    for folder, size_bytes in sizes.items():
        folder.mkdir(parents=True, exist_ok=True)
        options = f"size={size_bytes}".encode()
        _check(libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, options))


def can_mount() -> bool:
    """Return whether this system lets a process have mounts of its own."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            mount_small_disks({})
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


@contextmanager
def full_disk(process: psutil.Process, folder: Path) -> Iterator[None]:
    """Fill the disk that a process has at a folder, and free it at the end."""
    seen = Path(f"/proc/{process.pid}/root") / folder.relative_to("/")
    filler = seen / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


def refuse_locks(number: int) -> None:
    """Let this process have no locks of files: a network's disk says so with this error."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    fcntl.flock = refuse


def use_temporary_folder(folder: Path) -> None:
    """Put the temporary files of this process into a folder."""
    os.environ["TMPDIR"] = str(folder)


def obey_limits(control: Path, *, of_threads: bool = False) -> None:
    """Let SIGUSR2 set the limit of this process that a file names, for `limited`.

    The number of threads of root is not limited: for that, root runs on as another user.
    """
    number = os.open(control, os.O_RDONLY | os.O_CREAT)  # later it might be one file too many
    if of_threads and os.geteuid() == 0:
        _become_another_user()

    def set_limit(*_: object) -> None:
        kind, most = json.loads(os.pread(number, 100, 0))
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))

    signal.signal(signal.SIGUSR2, set_limit)


@contextmanager
def limited(process: psutil.Process, control: Path, kind: int, most: int) -> Iterator[None]:
    """Lower a limit of a server that began with `obey_limits`, and restore it at the end."""
    before = _limit(process, kind)
    _set_limit(process, control, kind, most)
    try:
        yield
    finally:
        _set_limit(process, control, kind, before)


def no_more_files(
    process: psutil.Process, control: Path, *, more: int = 0
) -> AbstractContextManager[None]:
    """Let a server open no more files meanwhile, or `more` of them."""
    taken = {int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir()}
    lowest = min(set(range(len(taken) + 1)) - taken)
    return limited(process, control, resource.RLIMIT_NOFILE, lowest + more)


def no_more_threads(process: psutil.Process, control: Path) -> AbstractContextManager[None]:
    """Let a server start no threads and processes meanwhile."""
    return limited(process, control, resource.RLIMIT_NPROC, 1)


def no_longer_files(process: psutil.Process, control: Path) -> AbstractContextManager[None]:
    """Let no file of a server grow meanwhile, its log neither."""
    return limited(process, control, resource.RLIMIT_FSIZE, 0)


_ROWS = {
    resource.RLIMIT_NOFILE: "Max open files",
    resource.RLIMIT_NPROC: "Max processes",
    resource.RLIMIT_FSIZE: "Max file size",
}


def _limit(process: psutil.Process, kind: int) -> int:
    rows = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    row = next(row for row in rows if row.startswith(_ROWS[kind]))
    soft = row.removeprefix(_ROWS[kind]).split()[0]
    return resource.RLIM_INFINITY if soft == "unlimited" else int(soft)


def _set_limit(process: psutil.Process, control: Path, kind: int, most: int) -> None:
    control.write_text(json.dumps([kind, most]))
    process.send_signal(signal.SIGUSR2)
    deadline = time.monotonic() + _OBEY_SECONDS
    while _limit(process, kind) != most:  # its main thread handles the signal
        assert time.monotonic() < deadline, "the server does not obey"
        time.sleep(0.005)


def _become_another_user() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(_ANOTHER_USER, _ANOTHER_USER, _ANOTHER_USER)
    os.setresuid(_ANOTHER_USER, _ANOTHER_USER, _ANOTHER_USER)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    # effective, permitted, inheritable: low words, then high words
    sets = (ctypes.c_uint32 * 6)(_FILES_OF_OTHERS, _FILES_OF_OTHERS, 0, 0, 0, 0)
    _check(libc.capset(header, sets))


def _check(outcome: int) -> None:
    if outcome != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
