"""Makes features smaller before they leave: pooled, some units, projected; knows no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidRequestError, format_shape

Array = npt.NDArray[np.float32]

POOLS: Mapping[str, Callable[..., Array]] = {"mean": np.mean, "max": np.max}
"""How values along axes become one."""


@dataclass(frozen=True)
class Projection:
    """A sparse random projection to so many values; the seed makes its matrix."""

    component_count: int
    seed: int = 0


@dataclass(frozen=True)
class Reduction:
    """What is done to each module's features, in the order of the fields; the defaults: nothing."""

    pool: str = ""
    """A key of POOLS."""
    pool_axes: tuple[int, ...] = ()
    """Axes of one image's features, from 0."""
    units: tuple[int, ...] = ()
    projection: Projection | None = None

    def shape(self, module: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that a module's is reduced to; raise where it can't be reduced so."""
        if bool(self.pool) != bool(self.pool_axes):
            sentence = "pooling needs both: pool (mean or max) and pool_axes, such as 1 and 2"
            raise InvalidRequestError(sentence, field="reduction.pool_axes")
        pooled = self._pooled_shape(module, shape)
        if self.units:
            self._check_units(module, pooled)
            pooled = (len(self.units),)
        return pooled if self.projection is None else (self._components(module, pooled),)

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
            # The matrix leads: a sparse one times a dense one is dense.
            rows = (matrix @ flat.T).T
        return np.ascontiguousarray(rows, np.float32)

    def _pooled_shape(self, module: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [axis for axis in self.pool_axes if axis >= len(shape)]
        if wrong or len(set(self.pool_axes)) < len(self.pool_axes):
            raise InvalidRequestError(
                f"pool_axes {list(self.pool_axes)} are not different axes of module {module!r}, "
                f"whose features of one image are {format_shape(shape)} "
                f"(axes 0 to {len(shape) - 1})",
                field="reduction.pool_axes",
                subject=module,
            )
        return tuple(size for axis, size in enumerate(shape) if axis not in self.pool_axes)

    def _check_units(self, module: str, shape: tuple[int, ...]) -> None:
        count = prod(shape)
        wrong = [unit for unit in self.units if unit >= count]
        if wrong:
            raise InvalidRequestError(
                f"module {module!r} has {count:,} units ({format_shape(shape)}), from 0 to "
                f"{count - 1}; there is no unit {wrong[0]}",
                field="reduction.units",
                subject=module,
            )

    def _components(self, module: str, shape: tuple[int, ...]) -> int:
        count, width = self.projection.component_count if self.projection else 0, prod(shape)
        if not 1 <= count <= width:
            raise InvalidRequestError(
                f"a projection of module {module!r} gives 1 to {width:,} components (its features "
                f"are {format_shape(shape)}), not {count}",
                field="reduction.projection.component_count",
                subject=module,
            )
        return count


WHOLE = Reduction()
"""Features as they are."""


@lru_cache(maxsize=8)
def _matrix(width: int, projection: Projection) -> Any:
    """Return scikit-learn's matrix, components x width, sparse."""
    from sklearn.random_projection import SparseRandomProjection

    maker = SparseRandomProjection(projection.component_count, random_state=projection.seed)
    return maker.fit(np.zeros((1, width), np.float32)).components_.astype(np.float32)
