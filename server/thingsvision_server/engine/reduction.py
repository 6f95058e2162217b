"""Reduces features before they leave: pooling, a selection of units, a random projection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.modules import FEATURES, Axes
from ..errors import InvalidRequestError, format_shape

Array = npt.NDArray[np.float32]

POOLS: Mapping[str, Callable[..., Array]] = {"mean": np.mean, "max": np.max}
"""How the values along the pooled axes become one value."""


@dataclass(frozen=True)
class Projection:
    """A sparse random projection to `component_count` values; the seed determines its matrix."""

    component_count: int
    seed: int = 0


@dataclass(frozen=True)
class Reduction:
    """What is done to each module's features, in the order of the fields; by default nothing."""

    pool: str = ""
    """A key of POOLS."""
    pool_axes: tuple[int, ...] = ()
    """Axes of one image's features, from 0."""
    units: tuple[int, ...] = ()
    projection: Projection | None = None

    def shape(self, module: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the reduced shape of a module's features; raise if they can't be reduced."""
        if bool(self.pool) != bool(self.pool_axes):
            sentence = "`pool` (mean or max) and `pool_axes` (e.g. 1, 2) must be given together"
            raise InvalidRequestError(sentence, field="reduction.pool_axes")
        pooled = self._shape_after_pooling(module, shape)
        if self.units:
            self._check_units(module, pooled)
            pooled = (len(self.units),)
        return pooled if self.projection is None else (self._components(module, pooled),)

    def axes(self, axes: Axes) -> Axes:
        """Return what the axes of reduced features are."""
        if self.units or self.projection is not None:
            return (FEATURES,)
        return tuple(name for place, name in enumerate(axes) if place not in self.pool_axes)

    def apply(self, rows: Array) -> Array:
        """Return images x the reduced shape, C order."""
        if self.pool:
            axes = tuple(axis + 1 for axis in self.pool_axes)
            rows = POOLS[self.pool](rows, axis=axes)
        if self.units:
            rows = rows.reshape(len(rows), -1)[:, list(self.units)]
        if self.projection is not None:
            flat = rows.reshape(len(rows), -1)
            matrix = _matrix(flat.shape[1], self.projection)
            # The matrix comes first: sparse times dense is dense.
            rows = (matrix @ flat.T).T
        return np.ascontiguousarray(rows, np.float32)

    def _shape_after_pooling(self, module: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [axis for axis in self.pool_axes if axis >= len(shape)]
        if wrong or len(set(self.pool_axes)) < len(self.pool_axes):
            raise InvalidRequestError(
                f"`pool_axes` of module {module!r} must be different numbers from 0 to "
                f"{len(shape) - 1} (one image's features are {format_shape(shape)}), got "
                f"{list(self.pool_axes)}",
                field="reduction.pool_axes",
                subject=module,
            )
        return tuple(size for axis, size in enumerate(shape) if axis not in self.pool_axes)

    def _check_units(self, module: str, shape: tuple[int, ...]) -> None:
        count = prod(shape)
        wrong = [unit for unit in self.units if unit >= count]
        if wrong:
            raise InvalidRequestError(
                f"`units` of module {module!r} must be from 0 to {count - 1} (it has {count:,} "
                f"units, {format_shape(shape)}), got {wrong[0]}",
                field="reduction.units",
                subject=module,
            )

    def _components(self, module: str, shape: tuple[int, ...]) -> int:
        count, width = self.projection.component_count if self.projection else 0, prod(shape)
        if not 1 <= count <= width:
            raise InvalidRequestError(
                f"a projection of module {module!r} must have 1 to {width:,} components (its "
                f"features are {format_shape(shape)}), got {count}",
                field="reduction.projection.component_count",
                subject=module,
            )
        return count


NO_REDUCTION = Reduction()
"""Leaves features as they are."""


@lru_cache(maxsize=8)
def _matrix(width: int, projection: Projection) -> Any:
    """Return scikit-learn's sparse matrix, components x width."""
    from sklearn.random_projection import SparseRandomProjection

    maker = SparseRandomProjection(projection.component_count, random_state=projection.seed)
    return maker.fit(np.zeros((1, width), np.float32)).components_.astype(np.float32)
