"""The largest eigenvalues of a matrix: of a large matrix in a process that can be ended.

LAPACK can't be stopped, and takes an hour for a matrix that half of a machine's memory holds. The
process is ended when nobody waits any more, and stopped while others have their turn.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from .cores import blas_thread_count
from .eigen_process import find_largest

LEAST_SIZE = 2048
"""Sides of matrices that have a process of their own: smaller ones take a second or two."""

_LOOK_SECONDS = 0.2
_CAN_STOP = hasattr(signal, "SIGSTOP")
_LAST_BYTES = 2000

Float64 = npt.NDArray[np.float64]


class SquareMatrix:
    """A matrix of zeros, float64, in memory that another process can be given if it is large."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._descriptor: int | None = None
        if size < LEAST_SIZE:
            self.values: Float64 = np.zeros((size, size))
            return
        self._descriptor = _open_memory()
        weakref.finalize(self, os.close, self._descriptor)
        # Eigenvectors take the place of the matrix, and the eigenvalues come behind them.
        os.ftruncate(self._descriptor, 8 * size * (size + 1))
        memory = mmap.mmap(self._descriptor, 0)
        self.values = np.frombuffer(memory, np.float64, size * size).reshape(size, size)
        self._results = np.frombuffer(memory, np.float64)

    def largest(self, count: int, report: Callable[[], None]) -> tuple[Float64, Float64]:
        """Return the largest eigenvalues, ascending, and eigenvectors [m x k] of its lower half.

        The matrix is overwritten. `report` is called several times a second while a large matrix
        is decomposed; to cancel, raise an exception in it. Raises MemoryError.
        """
        count = min(count, self.size)
        if self._descriptor is None:
            return find_largest(self.values, count)
        _run(self._descriptor, self.size, count, report)
        vectors = self._results[: count * self.size].reshape(count, self.size).T
        return self._results[self.size**2 :][:count], vectors


def _open_memory() -> int:
    """Return the descriptor of a file without a name, in memory if the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("matrix", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _run(descriptor: int, size: int, count: int, report: Callable[[], None]) -> None:
    """Decompose the matrix in a file by another process, which ends with this one."""
    arguments = [str(descriptor), str(size), str(count), str(os.getpid())]
    threads = str(blas_thread_count())
    environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    program = str(Path(__file__).with_name("eigen_process.py"))
    with (
        tempfile.TemporaryFile() as output,
        _ending(
            subprocess.Popen(  # noqa: S603 - this program's own
                [sys.executable, program, *arguments],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the server
            )
        ) as process,
    ):
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_LOOK_SECONDS)
                break
            # Until then, a server that is killed would leave a process that nobody continues.
            has_begun = os.fstat(output.fileno()).st_size > 0
            with _stopping(process) if has_begun else nullcontext():
                report()
        if code:
            raise _failure(code, output)


@contextmanager
def _stopping(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop a process while the context lasts: others have their turn."""
    if _CAN_STOP:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if _CAN_STOP:
            process.send_signal(signal.SIGCONT)


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process, which is ended when the context ends."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _failure(code: int, output: IO[bytes]) -> Exception:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _LAST_BYTES))
    words = output.read().decode(errors="replace").strip()
    if code < 0 or "MemoryError" in words:
        return MemoryError(f"the eigendecomposition ran out of memory (code {code})")
    return RuntimeError(f"the eigendecomposition failed with code {code}: {words}")
