"""RDM metrics: the dissimilarity of two rows, as pure functions in float64.

Each takes N x P and returns N x N. Names and formulas are those of the THINGSvision paper
(Muttenthaler & Hebart 2021) and library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import Float64Array

Flags = npt.NDArray[np.bool_]

# Squared distances from inner products are off by about 1e-16 of the rows' squared lengths: pairs
# closer than this fraction of them are subtracted instead.
_NEAR = 1e-4


def correlation(x: Float64Array) -> Float64Array:
    """Return 1 - Pearson r."""
    return cosine(x - x.mean(axis=1, keepdims=True))


def cosine(x: Float64Array) -> Float64Array:
    """Return 1 - cosine of the angle."""
    # So that squares neither overflow nor underflow.
    scaled = x / np.abs(x).max(axis=1, keepdims=True)
    unit: Float64Array = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return 1.0 - np.clip(unit @ unit.T, -1.0, 1.0)


def squared_euclidean(x: Float64Array) -> Float64Array:
    """Return sum((x - y)^2), accurate also for nearly equal rows."""
    centred = x - x.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    scale = squares[:, None] + squares
    distances: Float64Array = np.maximum(scale - 2.0 * (centred @ centred.T), 0.0)
    from scipy.spatial.distance import cdist  # importing it takes longer than most RDMs

    near = np.triu(distances <= _NEAR * scale, k=1)
    for row in np.flatnonzero(near.any(axis=1)):
        columns = np.flatnonzero(near[row])
        exact = cdist(x[row : row + 1], x[columns], "sqeuclidean")[0]
        distances[row, columns] = distances[columns, row] = exact
    np.fill_diagonal(distances, 0.0)
    return distances


def euclidean(x: Float64Array) -> Float64Array:
    """Return the length of x - y."""
    lengths: Float64Array = np.sqrt(squared_euclidean(x))
    return lengths


def gaussian(x: Float64Array) -> Float64Array:
    """Return 1 - exp(-D / mean(D)), where D are the squared distances, all N x N."""
    distances = squared_euclidean(x)
    mean = distances.mean()
    similarity_loss: Float64Array = -np.expm1(-distances / (mean or 1.0))
    return similarity_loss


def _is_finite(x: Float64Array) -> Flags:
    finite: Flags = np.logical_and.reduce(np.isfinite(x), axis=1)
    return finite


def _varies(x: Float64Array) -> Flags:
    differs: Flags = np.logical_or.reduce(x != x[:, :1], axis=1)
    return _is_finite(x) & differs


def _is_not_zero(x: Float64Array) -> Flags:
    differs: Flags = np.logical_or.reduce(x != 0, axis=1)
    return _is_finite(x) & differs


@dataclass(frozen=True)
class Metric:
    """A metric: `compare` takes rows for which `is_defined` is true."""

    compare: Callable[[Float64Array], Float64Array]
    is_defined: Callable[[Float64Array], Flags]


METRICS: dict[str, Metric] = {
    "correlation": Metric(correlation, _varies),
    "cosine": Metric(cosine, _is_not_zero),
    "euclidean": Metric(euclidean, _is_finite),
    "gaussian": Metric(gaussian, _is_finite),
}
