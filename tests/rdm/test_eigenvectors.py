"""The eigendecomposition of large matrices: the same values, in a process that can be ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import psutil
import pytest

from thingsvision_server.rdm import eigenvectors, pca
from thingsvision_server.rdm.eigenvectors import SquareMatrix
from thingsvision_server.rdm.pca import Components, compute_pca

SIZE = 60


class Features:
    """Rows in memory."""

    tile_values = 1

    def __init__(self, values: Any) -> None:
        self.array = values
        self.row_count, self.value_count = values.shape

    def values(self, start: int, stop: int) -> Any:
        return self.array[:, start:stop]

    def values_of(self, indices: Any, start: int, stop: int) -> Any:
        return self.array[indices, start:stop]

    def rows(self, start: int, stop: int) -> Any:
        return self.array[start:stop]


def features(row_count: int, value_count: int) -> Features:
    values = np.random.default_rng(0).standard_normal((row_count, value_count))
    return Features(values.astype(np.float32))


def components(rows: Features, on_block: Callable[[int, int], None] | None = None) -> Components:
    return compute_pca(rows, 5, on_block=on_block)


@pytest.mark.parametrize("shape", [(SIZE, 2 * SIZE), (2 * SIZE, SIZE)])
def test_a_process_of_its_own_gives_the_same_bits(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = features(*shape)
    here = components(rows)
    monkeypatch.setattr(eigenvectors, "LEAST_SIZE", SIZE)
    there = components(rows)
    for name in ("mean", "axes", "variances"):
        assert np.array_equal(getattr(here, name), getattr(there, name)), name
    centred = rows.array.astype(np.float64) - rows.array.mean(0, dtype=np.float64)
    exact = np.linalg.svd(centred, compute_uv=False)[:5] ** 2 / (shape[0] - 1)
    np.testing.assert_allclose(there.variances, exact, rtol=1e-9)


@pytest.mark.parametrize("shape", [(SIZE, 2 * SIZE), (2 * SIZE, SIZE)])
def test_products_of_few_rows_at_a_time_are_the_same(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = features(*shape)
    at_once = components(rows)
    monkeypatch.setattr(pca, "MOST_ROWS", 2)
    by_pairs = components(rows)
    np.testing.assert_allclose(at_once.axes, by_pairs.axes, rtol=0, atol=1e-6)
    np.testing.assert_allclose(at_once.variances, by_pairs.variances, rtol=1e-12)


class LeftError(Exception):
    """Nobody waits any more."""


def test_whoever_leaves_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eigenvectors, "LEAST_SIZE", SIZE)
    monkeypatch.setattr(eigenvectors, "_LOOK_SECONDS", 0.0)
    square = SquareMatrix(SIZE)
    started: list[psutil.Process] = []

    def leave() -> None:
        started.extend(eigen_processes(psutil.Process()))
        raise LeftError

    with pytest.raises(LeftError):
        square.largest(5, leave)
    assert len(started) == 1
    assert not started[0].is_running()


def eigen_processes(parent: psutil.Process) -> list[psutil.Process]:
    return [one for one in parent.children() if "eigen_process.py" in " ".join(one.cmdline())]


def test_a_process_that_the_system_ends_is_a_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(eigenvectors, "LEAST_SIZE", SIZE)
    monkeypatch.setattr(eigenvectors, "_LOOK_SECONDS", 0.0)

    def end() -> None:
        with suppress(psutil.ZombieProcess):
            for one in eigen_processes(psutil.Process()):
                one.kill()

    with pytest.raises(MemoryError, match="ran out of memory"):
        SquareMatrix(SIZE).largest(5, end)


_SERVER = """
import os, signal, psutil
from thingsvision_server.rdm import eigenvectors
eigenvectors.LEAST_SIZE, eigenvectors._LOOK_SECONDS = 0, 0.01

looks = [0]

def die():
    looks[0] += 1
    if looks[0] < LOOKS:
        return
    print(*[one.pid for one in psutil.Process().children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

eigenvectors.SquareMatrix(1500).largest(1500, die)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("looks", [1, 30])
def test_the_process_ends_with_a_server_that_is_killed(looks: int) -> None:
    command = [sys.executable, "-c", _SERVER.replace("LOOKS", str(looks))]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == -9, found.stderr
    (pid,) = map(int, found.stdout.split())
    until = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)
