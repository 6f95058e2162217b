"""Rows of RDMs on the device: seconds, a bare product beside them, and the largest error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.computation import FLOAT64, RESIDUES
from thingsvision_server.rdm.products import find_arithmetic
from thingsvision_server.rdm.rows import ArrayRows

from ..near_duplicates import VALUES, features, largest_error
from .stage import Result, Results, Stage

_COMPARED_ROWS = 8
_MOST_ERROR = 1e-6
_ARITHMETICS = (FLOAT64, RESIDUES)


def measure(stage: Stage) -> Results:
    """Measure RDMs by correlation and of Euclidean distances; a warm-up comes first."""
    for count in stage.sizes.rdms:
        rows = features(count)
        compute_rdm(ArrayRows(rows[:64]), "correlation", device=stage.device)
        product = _seconds(partial(_product, stage, rows))[1]
        for metric, exact in (("correlation", _correlation), ("euclidean", _euclidean)):
            known = exact(rows.astype(np.float64))
            for how in _ARITHMETICS:
                if find_arithmetic(how, stage.device) == how:
                    row = _row(stage, rows, metric, exact=known, arithmetic=how)
                    yield row | {"product_s": round(product, 3)}


def _row(stage: Stage, rows: Any, metric: str, exact: Any, arithmetic: str) -> Result:
    compute = partial(
        compute_rdm, ArrayRows(rows), metric, device=stage.device, arithmetic=arithmetic
    )
    rdm, seconds = _seconds(compute)
    error = largest_error(rdm.distances, exact)
    return {
        "row": f"RDM of {len(rows):,} x {VALUES:,}, {metric}, {arithmetic}",
        "ok": error <= _MOST_ERROR,
        "s": round(seconds, 3),
        "largest_error": error,
    }


def _seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    began = perf_counter()
    return work(), perf_counter() - began


def _product(stage: Stage, rows: npt.NDArray[np.float32]) -> None:
    """Multiply the rows with themselves in float64, as tiles on the device."""
    whole = torch.from_numpy(rows).to(stage.device, torch.float64)
    for part in torch.split(whole, 8192):
        part @ whole.T
    if whole.is_cuda:
        torch.cuda.synchronize(stage.device)


def _correlation(rows: Any) -> Any:
    """Return 1 - r as half the square distance of unit vectors, to avoid cancellation."""
    centred = rows - rows.mean(1, keepdims=True)
    return _euclidean(centred / np.linalg.norm(centred, axis=1, keepdims=True)) ** 2 / 2


def _euclidean(rows: Any) -> Any:
    return np.stack([np.linalg.norm(rows - one, axis=1) for one in rows[:_COMPARED_ROWS]])
