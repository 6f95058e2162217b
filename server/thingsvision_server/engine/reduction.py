"""Reduces features before they leave: pooling, a selection of units, a random projection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.modules import FEATURES, Axes
from ..errors import InvalidRequestError, format_shape

Array = npt.NDArray[np.float32]

POOLS: Mapping[str, Callable[..., Array]] = {"mean": np.mean, "max": np.max}
"""How the values along the pooled axes become one value."""

MOST_ENTRIES = 2**24
"""Entries of a projection's matrix that are not zero, at most: 128 MiB, and 20 s to make."""

_MANY_UNITS = 2**16
"""Units that may be chosen of any features; repeated units can be more than there are."""


@dataclass(frozen=True)
class Projection:
    """A sparse random projection to `component_count` values; the seed determines its matrix."""

    component_count: int
    seed: int = 0

    def entry_count(self, width: int) -> int:
        """Return about how many entries of the matrix for features of this width are not zero."""
        return self.component_count * (isqrt(width) + 1)


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

    def projected_width(self, shape: Sequence[int]) -> int:
        """Return how many values of features of this shape are projected."""
        pooled = (size for axis, size in enumerate(shape) if axis not in self.pool_axes)
        return len(self.units) or prod(pooled)

    @cached_property
    def _indices(self) -> Any:
        return np.array(self.units, np.intp)

    def apply(self, rows: Array, matrices: Mapping[int, Any]) -> Array:
        """Return images x the reduced shape, C order; `matrices` are those of `Projections`."""
        if self.pool:
            axes = tuple(axis + 1 for axis in self.pool_axes)
            rows = POOLS[self.pool](rows, axis=axes)
        if self.units:
            rows = rows.reshape(len(rows), -1)[:, self._indices]
        if self.projection is not None:
            flat = rows.reshape(len(rows), -1)
            # The matrix comes first: sparse times dense is dense.
            rows = (matrices[flat.shape[1]] @ flat.T).T
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
        most = max(count, _MANY_UNITS)
        if len(self.units) > most:
            raise InvalidRequestError(
                f"`units` of module {module!r} must be at most {most:,} (it has {count:,} units, "
                f"{format_shape(shape)}), got {len(self.units):,}",
                field="reduction.units",
                subject=module,
            )
        if max(self.units) >= count:
            wrong = next(unit for unit in self.units if unit >= count)
            raise InvalidRequestError(
                f"`units` of module {module!r} must be from 0 to {count - 1} (it has {count:,} "
                f"units, {format_shape(shape)}), got {wrong}",
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
        if self.projection and self.projection.entry_count(width) > MOST_ENTRIES:
            most = MOST_ENTRIES // (isqrt(width) + 1)
            raise InvalidRequestError(
                f"a projection of module {module!r} must have at most {most:,} components (its "
                f"features have {width:,} values, and the matrix would take too long to make), got "
                f"{count:,}: use fewer, or pool the features first",
                field="reduction.projection.component_count",
                subject=module,
            )
        return count


NO_REDUCTION = Reduction()
"""Leaves features as they are."""
