"""Rows of features: the service, the engine without gRPC, and the device's limit, in turn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from ..cases import FeatureCase
from ..features.local import Local
from ..features.service import Service
from ..interleave import Patience, interleave
from ..networks import SEEDED
from ..worker import Column
from .busy import watch
from .limit import DeviceLimit, DeviceLimitWithRows
from .stage import Result, Results, Stage

_LARGEST_DIFFERENCE = 1e-4
"""Of the service from the bare pass, as a part of the largest value."""

_PATIENCE_SECONDS = 12.0
_MB = 1e6


def resnet50(stage: Stage) -> Results:
    """Measure pooled features, whose rows are small."""
    return _both(stage, "resnet50")


def vit_b_16(stage: Stage) -> Results:
    """Measure a transformer."""
    return _both(stage, "vit_b_16")


def alexnet(stage: Stage) -> Results:
    """Measure a network that computes faster than images are decoded."""
    return _both(stage, "alexnet")


def early(stage: Stage) -> Results:
    """Measure rows that are larger than their images."""
    yield _measure(stage, _case(stage, "early", "tensors"), DeviceLimitWithRows())


def _both(stage: Stage, row: str) -> Results:
    for inputs in ("tensors", "files"):
        yield _measure(stage, _case(stage, row, inputs), DeviceLimit())


def _case(stage: Stage, row: str, inputs: str) -> FeatureCase:
    network, module, count = stage.sizes.features[row]
    return FeatureCase(
        network=network,
        model=f"torchvision/{network}@{SEEDED}",
        modules=[module],
        images=stage.images(count),
        weights=SEEDED,
        weights_dir=str(stage.weights_dir),
        address=stage.server.address,
        device=stage.device,
        batch_size=stage.sizes.batch_size,
        inputs=inputs,
    )


def _measure(stage: Stage, case: FeatureCase, limit: Column) -> Result:
    columns: dict[str, Column] = {"limit": limit, "local": Local(), "service": Service()}
    with ExitStack() as stack:
        for column in columns.values():
            stack.callback(column.close)
            column.prepare(asdict(case))
        first = {name: column.run()[case.modules[0]] for name, column in columns.items()}
        arms = {name: partial(_throughput, one, case) for name, one in columns.items()}
        figures = interleave(arms, Patience(stage.sizes.rounds, _PATIENCE_SECONDS))
        with watch(stage.device, stage.server.pid) as busy:
            columns["service"].run()
    is_local = np.array_equal(first["service"], first["local"])
    difference = _difference(first["service"], first["limit"])
    return {
        "row": f"{case.network} {case.modules[0]} {case.inputs}",
        "ok": is_local and difference <= _LARGEST_DIFFERENCE,
        "images": len(case.images),
        "batch_size": case.batch_size,
        **_figures(figures, first["service"]),
        "service_is_local": is_local,
        "difference_from_limit": difference,
        "busy_share": busy.share,
    }


def _throughput(column: Column, case: FeatureCase) -> float:
    began = perf_counter()
    column.run()
    return len(case.images) / (perf_counter() - began)


def _figures(figures: Mapping[str, list[float]], rows: Any) -> dict[str, Any]:
    """Return images/s by column with their spread, ratios, and the MB/s of the service's rows."""
    middle = {name: median(values) for name, values in figures.items()}
    return {
        "images_per_s": {name: round(value, 1) for name, value in middle.items()},
        "spread": {
            name: [round(min(values), 1), round(max(values), 1)] for name, values in figures.items()
        },
        "service/limit": round(middle["service"] / middle["limit"], 3),
        "service/local": round(middle["service"] / middle["local"], 3),
        "service_mb_per_s": round(middle["service"] * rows[0].nbytes / _MB, 1),
    }


def _difference(found: Any, expected: Any) -> float:
    """Return the largest difference of the rows that both have, as a part of the largest value."""
    count = min(len(found), len(expected))
    return float(np.abs(found[:count] - expected[:count]).max() / np.abs(expected[:count]).max())
