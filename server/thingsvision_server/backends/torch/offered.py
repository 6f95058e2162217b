"""Which options of a forward pass are offered on a device: on a GPU, what was seen to work there.

Other hardware rounds and fuses in other ways, so that an option which works on a CPU proves nothing
about a GPU. `scripts/gpu --only options` runs each of them on a GPU; a value that it has seen to
work is added to `SEEN_ON_GPU`, with the date and the device in `docs/performance.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..base import Supported
from ..compute_options import DEFAULT, MemoryFormat, Precision
from .shortcuts import SHORTCUTS

SEEN_ON_GPU: Mapping[str, Sequence[Any]] = {}
"""By the name of an option: values beside the default that were seen to work on a GPU."""

RECORDING_SEEN_ON_GPU = False
"""Whether compiled passes were seen to work as CUDA graphs (`scripts/gpu --only recorded`)."""

_ON_CPU: Supported = {
    "precision": (Precision.FLOAT32, Precision.BFLOAT16),
    "memory_format": tuple(MemoryFormat),
    "compiled": (False, True),
}
_ON_GPU: Supported = {**_ON_CPU, "precision": tuple(Precision)}
_TRACED = ("precision",)
"""Options of networks that were recorded with one memory format, and run as recorded."""


def offered_options(*, on_gpu: bool, is_traced: bool) -> Supported:
    """Return the values that a network computes with there, by the name of the option."""
    able = _able(on_gpu=on_gpu, is_traced=is_traced)
    if not on_gpu or SHORTCUTS.untried_options:
        return able
    return {name: tuple(one for one in able[name] if _was_seen(name, one)) for name in able}


def untried_options(*, on_gpu: bool, is_traced: bool) -> Supported:
    """Return the values that it could compute with there, but which are not offered."""
    offered = offered_options(on_gpu=on_gpu, is_traced=is_traced)
    able = _able(on_gpu=on_gpu, is_traced=is_traced)
    return {name: tuple(one for one in able[name] if one not in offered[name]) for name in able}


def records_passes(*, on_gpu: bool) -> bool:
    """Tell whether compiled passes are recorded as CUDA graphs."""
    return on_gpu and (RECORDING_SEEN_ON_GPU or SHORTCUTS.untried_options)


def _able(*, on_gpu: bool, is_traced: bool) -> Supported:
    able = _ON_GPU if on_gpu else _ON_CPU
    return {name: values for name, values in able.items() if name in _TRACED or not is_traced}


def _was_seen(name: str, value: Any) -> bool:
    return value == getattr(DEFAULT, name) or value in SEEN_ON_GPU.get(name, ())
