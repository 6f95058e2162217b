"""Describes which keys of a state dict do not fit a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    kinds = {name: kind_of(tensor) for name, tensor in state.items()}
    return _abbreviate([f"{name} is {kind}" for name, kind in kinds.items() if kind])


def kind_of(value: Any) -> str | None:
    """Return what makes a tensor useless as weights, empty: nothing; None if it is no tensor."""
    import torch

    if not isinstance(value, torch.Tensor):
        return None
    if kind := getattr(value, "kind", ""):
        return str(kind)
    if value.is_meta:
        return "on the meta device, without values"
    if value.is_quantized:
        return f"quantized ({value.dtype})"
    if str(value.layout) != "torch.strided":
        return f"sparse ({value.layout})"
    is_plain = type(value) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
    return "" if is_plain and not value.is_nested else f"of the class {type(value).__name__}"


def _abbreviate(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
