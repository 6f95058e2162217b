"""Describes which keys of a state dict do not fit a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .state_dicts import StateDict

_SHOWN = 4


def key_mismatches(network: nn.Module, state: StateDict) -> str:
    """Return the missing keys, the unexpected keys and the differing shapes of a state dict."""
    own = network.state_dict()
    shapes = [
        f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    parts = (
        ("missing keys:", [name for name in own if name not in state]),
        ("unexpected keys:", [name for name in state if name not in own]),
        ("wrong shapes:", shapes),
    )
    return "; ".join(f"{what} {_abbreviate(names)}" for what, names in parts if names)


def unassignable(state: StateDict) -> str:
    """Return which tensors of a state dict can't be copied into those of a network, and why."""
    kinds = {name: _kind(tensor) for name, tensor in state.items()}
    return _abbreviate([f"{name} is {kind}" for name, kind in kinds.items() if kind])


def _kind(tensor: Any) -> str:
    if tensor.is_meta:
        return "on the meta device, without values"
    if tensor.is_quantized:
        return f"quantized ({tensor.dtype})"
    return "" if str(tensor.layout) == "torch.strided" else f"sparse ({tensor.layout})"


def _abbreviate(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
