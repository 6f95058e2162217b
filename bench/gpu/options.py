"""Rows of the options of a forward pass: gain and error of each, against exact float32.

A value of an option that is right here has been seen to work on this device: it may be added to
`SEEN_ON_GPU` of `server/backends/torch/offered.py`, which offers it on GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from thingsvision_client import Client

from ..cases import TAG
from ..interleave import Patience, interleave
from ..networks import SEEDED
from .stage import Results, Stage

_NETWORK, _MODULE = "squeezenet1_0", "features.12"
_PATIENCE_SECONDS = 15.0

_Options = Mapping[str, Any]

_REORDERED, _BFLOAT16, _HALF, _TF32 = 1e-5, 5e-2, 1e-2, 5e-3
"""Largest error of a kind of option, as a part of the largest activation."""

_ON_ANY: Mapping[str, tuple[_Options, float]] = {
    "channels_last": ({"memory_format": "channels_last"}, _REORDERED),
    "bfloat16": ({"precision": "bfloat16"}, _BFLOAT16),
    "bfloat16, channels_last": (
        {"precision": "bfloat16", "memory_format": "channels_last"},
        _BFLOAT16,
    ),
}
_ON_GPU: Mapping[str, tuple[_Options, float]] = {
    "tf32": ({"precision": "tf32"}, _TF32),
    "tf32, channels_last": ({"precision": "tf32", "memory_format": "channels_last"}, _TF32),
    "float16": ({"precision": "float16"}, _HALF),
    "float16, channels_last": ({"precision": "float16", "memory_format": "channels_last"}, _HALF),
}
_COMPILED: Mapping[str, tuple[_Options, float]] = {
    "compiled": ({"compiled": True}, _REORDERED),
    "compiled, channels_last": ({"compiled": True, "memory_format": "channels_last"}, _REORDERED),
    "compiled, bfloat16": ({"compiled": True, "precision": "bfloat16"}, _BFLOAT16),
}


def measure(stage: Stage) -> Results:
    """Measure the options of a trained network, in turn; each runs once before, untimed."""
    images = stage.images(stage.sizes.options)
    with Client(stage.server.address) as client:
        columns = {"default": ({}, 0.0), **_columns(stage)}
        work = {
            name: partial(_extract, client, stage, images=images, options=options)
            for name, (options, _) in columns.items()
        }
        features = {name: extract().features[_MODULE] for name, extract in work.items()}
        passes: dict[str, list[float]] = {name: [] for name in work}
        arms = {
            name: partial(_throughput, one, len(images), passes[name]) for name, one in work.items()
        }
        figures = interleave(arms, Patience(stage.sizes.rounds, _PATIENCE_SECONDS))
    exact, usual = features["default"], figures["default"]
    for name, (options, most) in columns.items():
        error = float(np.abs(features[name] - exact).max() / np.abs(exact).max())
        gains = [one / other for one, other in zip(figures[name], usual, strict=False)]
        pass_gain = median(passes["default"]) / median(passes[name])
        yield {
            "row": f"{_model(stage)} {_MODULE}: {name}",
            # Rounding that leaves no trace did not happen.
            "ok": error <= most and (error > 0 or "precision" not in options),
            "options": options,
            "images_per_s": round(median(figures[name]), 1),
            "gain": round(median(gains), 2),
            # Images may be decoded more slowly than the device computes.
            "pass_gain": round(pass_gain, 2),
            "error": error,
        }


def _columns(stage: Stage) -> Mapping[str, tuple[_Options, float]]:
    on_gpu = stage.device.startswith("cuda")
    # Compiling takes longer than everything else of a pretended run.
    compiled = {} if stage.is_pretended else _COMPILED
    return {**_ON_ANY, **(_ON_GPU if on_gpu else {}), **compiled}


def _model(stage: Stage) -> str:
    trained = (stage.weights_dir / "torchvision" / f"{_NETWORK}.{TAG}.pth").is_file()
    return f"torchvision/{_NETWORK}@{TAG if trained else SEEDED}"


def _extract(client: Client, stage: Stage, images: list[str], options: _Options) -> Any:
    size = stage.sizes.batch_size
    return client.extract(_model(stage), images, _MODULE, batch_size=size, **options)


def _throughput(extract: Callable[[], Any], count: int, passes: list[float]) -> float:
    """Return images/s; add the seconds of the passes."""
    began = perf_counter()
    found = extract()
    passes.append(found.timings.forward_seconds)
    return count / (perf_counter() - began)
