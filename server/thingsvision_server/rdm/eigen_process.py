"""Decomposes a matrix in shared memory; runs as a program, and imports nothing of this package."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # the folder of this file has modules of common names
    sys.path[:] = [one for one in sys.path if one != os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120

import mmap
from typing import Any

import numpy as np

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


def find_largest(matrix: Any, count: int) -> tuple[Any, Any]:
    """Return the largest eigenvalues, ascending, and eigenvectors [m x k] of a lower triangle.

    The matrix, m x m float64, is overwritten.
    """
    from scipy.linalg import eigh

    size = len(matrix)
    # LAPACK works in place on column-major arrays: pass the transpose and its upper triangle.
    values, vectors = eigh(
        matrix.T,
        lower=False,
        subset_by_index=(size - count, size - 1),
        overwrite_a=True,
        check_finite=False,
    )
    return values, vectors


def main(descriptor: int, size: int, count: int, parent: int) -> None:
    """Write eigenvectors in the place of the matrix in a file, and eigenvalues behind it."""
    _end_with(parent)
    print("begun", flush=True)
    memory = mmap.mmap(descriptor, 0)
    whole = np.frombuffer(memory, np.float64)
    values, vectors = find_largest(whole[: size**2].reshape(size, size), count)
    whole[: count * size].reshape(count, size)[:] = vectors.T
    whole[size**2 :][:count] = values


def _end_with(parent: int) -> None:
    """Have the system end this process when the server ends, even by a signal."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        sys.exit("the server has ended")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
