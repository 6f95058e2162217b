"""A new HDF5 file that reports a full disk as an error instead of crashing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import MissingDependencyError


def h5py_for(what: str) -> Any:
    """Return h5py. Raises MissingDependencyError, naming what needs it."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} need h5py: pip install 'thingsvision-service[hdf5]'"
        ) from error
    return h5py


class _Disk:
    """A file for HDF5, which crashes the process if a write fails: here, all writes seem to work.

    After the first failure nothing is written, and `check` raises its error.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._error: OSError | None = None
        self._file = file
        for name in ("seek", "tell", "flush", "readinto", "read"):
            setattr(self, name, getattr(file, name))

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        try:
            while rest and self._error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error
        return len(memoryview(content).cast("B"))

    def truncate(self, size: int) -> int:
        try:
            if self._error is None:
                self._file.truncate(size)
        except OSError as error:
            self._error = error
        return size

    def check(self) -> None:
        if self._error is not None:
            raise self._error


@dataclass(frozen=True)
class NewFile:
    """h5py's file, and a check after writing, which raises the OSError of a failed write."""

    root: Any
    _disk: _Disk

    def check(self) -> None:
        """Raise the OSError of a write that failed so far."""
        self._disk.check()


@contextmanager
def new_file(path: Path, what: str, **options: Any) -> Iterator[NewFile]:
    """Yield a new file; `what` names the files that need h5py, for the error if it is missing.

    Raises MissingDependencyError, and OSError if the disk is full.
    """
    h5py = h5py_for(what)
    with path.open("x+b", buffering=0) as file:
        disk = _Disk(file)
        try:
            with h5py.File(disk, "w", **options) as root:
                yield NewFile(root, disk)
        finally:  # what HDF5 makes of a file that lacks what was written has other names
            disk.check()
