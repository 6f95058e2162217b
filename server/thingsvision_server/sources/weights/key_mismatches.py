"""Says in a sentence which keys of a state dict do not fit a network; knows no file."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .state_dicts import StateDict

_SHOWN = 4


def key_mismatches(network: nn.Module, state: StateDict) -> str:
    """Return what a state dict lacks, what it has too much, and what has another shape."""
    own = network.state_dict()
    shapes = [
        f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    parts = (
        ("it lacks", [name for name in own if name not in state]),
        ("it has, but the network has not", [name for name in state if name not in own]),
        ("of another shape are", shapes),
    )
    return "; ".join(f"{what} {_abbreviate(names)}" for what, names in parts if names)


def _abbreviate(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
