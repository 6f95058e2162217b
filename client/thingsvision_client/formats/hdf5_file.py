"""A new file of HDF5, whatever happens to the disk; knows nothing of what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import MissingDependencyError


def h5py_for(what: str) -> Any:
    """Return h5py. Raises MissingDependencyError that says what needs it."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} need h5py: pip install 'thingsvision-service[hdf5]'"
        ) from error
    return h5py


class _Disk:
    """A file for HDF5, which crashes the process where a write fails: none does, visibly.

    After the first failure nothing is written, and `check` tells of it.
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
    """h5py's file, and what to call after writing: it raises the OSError of a failed write."""

    root: Any
    _disk: _Disk

    def check(self) -> None:
        """Raise the OSError of what could not be written so far."""
        self._disk.check()


@contextmanager
def new_file(path: Path, what: str, **options: Any) -> Iterator[NewFile]:
    """Give a new file; `what` names those that need h5py, for the error where it is not there.

    Raises MissingDependencyError, and OSError where the disk is full.
    """
    h5py = h5py_for(what)
    with path.open("x+b", buffering=0) as file:
        disk = _Disk(file)
        with h5py.File(disk, "w", **options) as root:
            yield NewFile(root, disk)
        disk.check()
