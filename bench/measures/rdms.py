"""Rows about RDMs of given features: seconds, and the error against exact distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from ..cases import RDMCase
from ..near_duplicates import VALUES, features, largest_error
from ..row import Cell, Row
from ..session import FirstRows, Session
from ..worker import KEPT_ROWS

Array = npt.NDArray[Any]

COLUMNS = {
    name: f"bench.rdm.{name}" for name in ("limit", "local", "service", "client", "peer", "formula")
}
FALLBACK, PEER = "formula", "peer"


@dataclass(frozen=True)
class RDMRow:
    """A metric, and a number of images with 4,096 values each."""

    id: str
    metric: str
    count: int

    def measure(self, session: Session) -> Row:
        """Time all columns in turn; each computes a small RDM first, untimed."""
        features = self._features(session.scratch)
        case = RDMCase(str(features), self.metric, session.server.address, session.choices.device)
        columns = self._columns(session)
        cells = session.prepare(columns, asdict(case))
        results = session.time(columns, cells, lambda seconds: seconds)
        self._write_errors(results, np.load(features), cells)
        return Row(
            self.id, self._says(), "s", cells, more_is_better=False, differs_from=_DIFFERS_FROM
        )

    def _columns(self, session: Session) -> dict[str, str]:
        left_out = FALLBACK if session.choices.peer else PEER
        return {name: module for name, module in COLUMNS.items() if name != left_out}

    def _features(self, scratch: Path) -> Path:
        path = scratch / f"features-{self.count}.npy"
        if not path.is_file():
            np.save(path, features(self.count))
        return path

    def _write_errors(
        self, results: Mapping[str, FirstRows], rows: Array, cells: Mapping[str, Cell]
    ) -> None:
        exact = EXACT[self.metric](rows.astype(np.float64))
        for name, arrays in results.items():
            if "rdm" in arrays:
                cells[name].difference = largest_error(arrays["rdm"], exact)

    def _says(self) -> str:
        return (
            f"RDM ({self.metric}) of {self.count:,} x {VALUES:,} float32 features with near "
            "duplicates. limit: only one float64 product of the features; local: the server's "
            "function; service: features uploaded, RDM received as float32; client: the client's "
            "compute_rdm, without a server; peer: THINGSvision's function; formula: plain numpy if "
            "the peer is missing"
        )


_DIFFERS_FROM = f"exact distances in float64, element by element, {KEPT_ROWS} rows"


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _cosine(rows: Array) -> Array:
    """Return 1 - cos as |a - b|^2 / 2 of unit vectors, to avoid the definition's cancellation."""
    return _square_distances(_unit(rows)) / 2


def _correlation(rows: Array) -> Array:
    return _cosine(rows - rows.mean(1, keepdims=True))


def _square_distances(rows: Array) -> Array:
    return np.asarray(cdist(rows[:KEPT_ROWS], rows, "sqeuclidean"))


def _gaussian(rows: Array) -> Array:
    # The mean of all squared distances is twice the sum of the values' variances.
    mean = 2 * rows.var(0).sum()
    return np.asarray(-np.expm1(-_square_distances(rows) / mean))


EXACT: Mapping[str, Callable[[Array], Array]] = {
    "correlation": _correlation,
    "cosine": _cosine,
    "euclidean": lambda rows: np.sqrt(_square_distances(rows)),
    "gaussian": _gaussian,
}

ROWS = tuple(
    RDMRow(f"rdm-{count}-{metric}", metric, count) for count in (1854, 10_000) for metric in EXACT
)
FULL_ONLY = ("rdm-10000-cosine", "rdm-10000-euclidean", "rdm-10000-gaussian")
"""With these the peer takes minutes."""
