"""Makes the matrices of random projections outside the lanes, and shares them among requests.

A large matrix takes scikit-learn half a minute. It is made in a thread of its own, one after
another, and no further when its caller has left.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..errors import ExhaustedError
from .reduction import Projection, Reduction

_SMALL_ENTRIES = 2**19
"""Matrices with fewer entries are made within a second, so they need not wait for large ones."""

_PAUSE_SECONDS = 1e-5
"""How long a row waits, for others to take the interpreter's lock: a row takes a millisecond."""

_ENTRY_BYTES = 8
"""Bytes of an entry that is not zero: its value and its column."""

_RETRY_SECONDS = 10.0
"""When calls that use matrices now may have ended."""

_Key = tuple[int, Projection]


class Projections:
    """Matrices of random projections, within a budget of bytes; those used last are kept."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._made: WeakValueDictionary[_Key, Any] = WeakValueDictionary()
        self._recent: list[tuple[_Key, Any]] = []
        self._lock = threading.Lock()
        self._large = ThreadPoolExecutor(1, "projection")

    async def find(
        self, reduction: Reduction, shapes: Mapping[str, Sequence[int]]
    ) -> dict[int, Any]:
        """Return the matrix of a reduction's projection, components x width, by width.

        `shapes` are the shapes of one image's features, by module. Raises ExhaustedError if the
        matrices in use leave no room. Cancelling ends the work within a row of the matrix.
        """
        projection, found = reduction.projection, dict[int, Any]()
        if projection is None:
            return found
        for shape in shapes.values():
            width = reduction.projected_width(shape)
            if width not in found:
                found[width] = await self._make((width, projection))
        return found

    async def _make(self, key: _Key) -> Any:
        width, projection = key
        is_large = projection.entry_count(width) > _SMALL_ENTRIES
        pool: Executor | None = self._large if is_large else None
        left = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                pool, partial(self._find_or_make, key, left)
            )
        finally:
            left.set()

    def _find_or_make(self, key: _Key, left: threading.Event) -> Any:
        matrix = self._find(key)
        if matrix is None:
            self._check_room(key)
            matrix = _make_matrix(*key, left)
            with self._lock:
                self._made[key] = matrix
        with self._lock:
            self._recent = [(key, matrix), *(one for one in self._recent if one[0] != key)]
            while sum(_bytes(one) for one, _ in self._recent) > self._budget_bytes // 4:
                self._recent.pop()
        return matrix

    def _find(self, key: _Key) -> Any:
        with self._lock:
            return self._made.get(key)

    def _check_room(self, key: _Key) -> None:
        needed = _bytes(key)
        with self._lock:
            while self._recent and self._used_bytes + needed > self._budget_bytes:
                self._recent.pop()
            used = self._used_bytes
        if used and used + needed > self._budget_bytes:
            raise ExhaustedError(
                f"the matrix of a projection of {key[0]:,} values to {key[1].component_count:,} "
                f"needs {needed:,} bytes, and others in use take {used:,} of {self._budget_bytes:,}"
                ": try again later, or use fewer components",
                field="reduction.projection.component_count",
                retry_seconds=_RETRY_SECONDS,
            )

    @property
    def _used_bytes(self) -> int:
        return sum(map(_bytes, self._made.keys()))

    def close(self) -> None:
        """End the thread; matrices that have not been begun are dropped."""
        self._large.shutdown(wait=False, cancel_futures=True)


class _LeftError(Exception):
    """Nobody waits for the matrix any more."""


class _Draws(np.random.RandomState):
    """The random numbers of a seed, until nobody waits for them; scikit-learn asks for each row."""

    left: threading.Event

    def binomial(self, *args: Any, **options: Any) -> Any:
        if self.left.is_set():
            raise _LeftError
        time.sleep(_PAUSE_SECONDS)
        return super().binomial(*args, **options)


def _make_matrix(width: int, projection: Projection, left: threading.Event) -> Any:
    """Return scikit-learn's sparse matrix, components x width, float32."""
    from sklearn.random_projection import SparseRandomProjection

    draws = _Draws(projection.seed)
    draws.left = left
    maker = SparseRandomProjection(projection.component_count, random_state=draws)
    return maker.fit(np.zeros((1, width), np.float32)).components_.astype(np.float32)


def _bytes(key: _Key) -> int:
    width, projection = key
    return _ENTRY_BYTES * projection.entry_count(width)
