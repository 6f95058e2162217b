"""A small disk that several servers of a test share, and that a test can fill."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from support.scarce_system import full_disk, mount_small_disks
from support.server_process import run_in_template

_OF_MOUNTS, _OF_USERS = 0x00020000, 0x10000000
_START_SECONDS = 60


@dataclass(frozen=True)
class SharedDisk:
    """A disk at a folder, which only processes that have joined its holder see."""

    folder: Path
    holder: psutil.Process

    def join(self) -> None:
        """Have this process, which must have one thread, see the disk. Raises OSError."""
        libc = ctypes.CDLL(None, use_errno=True)
        spaces = {"mnt": _OF_MOUNTS}
        if os.geteuid() != 0:
            spaces = {"user": _OF_USERS} | spaces
        place = Path(f"/proc/{self.holder.pid}/ns")
        files = {name: os.open(place / name, os.O_RDONLY) for name in spaces}
        for name, kind in spaces.items():
            if libc.setns(files[name], kind) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), f"the {name} namespace")
            os.close(files[name])

    def as_text(self) -> tuple[str, str]:
        """Return what `join_disk` needs, for a process of its own."""
        return str(self.folder), str(self.holder.pid)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Fill the disk, and free it at the end."""
        with full_disk(self.holder, self.folder):
            yield


@contextmanager
def shared_disk(folder: Path, size_bytes: int) -> Iterator[SharedDisk]:
    """Hold an empty disk of so many bytes at a folder until the end of the context."""
    ready = folder.with_name(f"{folder.name}.ready")
    process = run_in_template(_hold, str(folder), str(size_bytes), str(ready))
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not ready.exists():
            assert process.is_alive(), "the disk can't be mounted"
            assert time.monotonic() < deadline, "the disk is not mounted"
            time.sleep(0.02)
        yield SharedDisk(folder, psutil.Process(process.pid))
    finally:
        process.kill()
        process.join(10)


def _hold(folder: str, size_bytes: str, ready: str) -> None:
    mount_small_disks({Path(folder): int(size_bytes)})
    Path(ready).touch()
    while True:
        time.sleep(60)


def joining(disk: SharedDisk | None) -> dict[str, object]:
    """Return the option of a server that sees a disk; nothing without."""
    return {} if disk is None else {"before": partial(join_disk, *disk.as_text())}


def join_disk(folder: str, holder: str) -> None:
    """Have this process, which must have one thread, see a disk. Raises OSError."""
    SharedDisk(Path(folder), psutil.Process(int(holder))).join()
