"""The paper's formulas in plain numpy and scipy: the fallback if the peer is not installed.

It is as fast as short code gets, and the report calls it `formula`, not `peer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform

from ..cases import RDMCase
from ..worker import Case, Column, Result, main

Array = npt.NDArray[Any]


def _cosine(x: Array) -> Array:
    lengths = np.sqrt((x * x).sum(1))
    similarity: Array = x @ x.T / (lengths[:, None] * lengths)
    return 1 - np.clip(similarity, -1, 1)


def _correlation(x: Array) -> Array:
    return _cosine(x - x.mean(1, keepdims=True))


def _euclidean(x: Array) -> Array:
    return np.asarray(squareform(pdist(x)))


def _gaussian(x: Array) -> Array:
    squared = np.asarray(squareform(pdist(x, "sqeuclidean")))
    return np.asarray(1 - np.exp(-squared / squared.mean()))


METRICS: Mapping[str, Callable[[Array], Array]] = {
    "correlation": _correlation,
    "cosine": _cosine,
    "euclidean": _euclidean,
    "gaussian": _gaussian,
}


class Formula(Column):
    """A transcription of the formulas."""

    def prepare(self, case: Case) -> None:
        """Read the features."""
        self._case = RDMCase(**case)
        self._features = np.load(self._case.features)

    def run(self) -> Result:
        """Compute the RDM."""
        return {"rdm": METRICS[self._case.metric](self._features)}


if __name__ == "__main__":
    main(Formula)
