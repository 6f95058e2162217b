"""Checks that a `torch.export` program computes the same activations at each call.

PyTorch marks most of its operators that draw random numbers. Many of them are in every network,
switched off: dropout, attention, recurrent layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidWeightsError
from .exported_operators import is_listed

_RANDOM_UNMARKED = frozenset(
    {
        "_sample_dirichlet",
        "alpha_dropout_",
        "binomial",
        "dropout_",
        "feature_alpha_dropout",
        "feature_alpha_dropout_",
        "feature_dropout",
        "feature_dropout_",
        "random",
        "random_",
        "rrelu",
        "rrelu_",
        "scaled_dot_product_attention",
    }
)
"""Operators that draw random numbers without PyTorch's mark."""

_SWITCHES = ("train", "training")
"""Arguments that switch an operator's randomness, or its use of the batch's statistics, on."""

_RATES = ("dropout_p", "dropout", "p")
"""Arguments that are the probability of something random: if it is 0, nothing is."""

_MODULES_OF_TORCH = "torch.nn.modules."
_CALL_SUFFIX = re.compile(r"@\d+$")


@dataclass(frozen=True)
class _Origin:
    """The innermost module that an operator was called in."""

    path: str
    kind: str
    """Its class with its package; empty if it is not known."""

    @property
    def is_of_torch(self) -> bool:
        return self.kind.startswith(_MODULES_OF_TORCH)

    def __str__(self) -> str:
        kind = self.kind.rpartition(".")[2]
        if not self.path:
            return f"the network itself{f' ({kind})' if kind else ''}"
        return f"module {self.path!r} ({kind})"


@dataclass(frozen=True)
class _Cause:
    """A reason why activations would differ, and what helps."""

    rank: int
    """The smallest is told: a network in training mode has many others."""
    why: str


def check_repeatable(graphs: Iterator[Any], called: str, constants: frozenset[str]) -> None:
    """Raise InvalidWeightsError if an operator draws random numbers, or uses the whole batch.

    `constants` are the names of tensors that don't depend on images.
    """
    nodes = (node for graph in graphs for node in graph["nodes"])
    causes = [cause for node in nodes if (cause := _cause(node, constants)) is not None]
    if causes:
        first = min(causes, key=lambda cause: cause.rank)
        raise InvalidWeightsError(f"{called} is rejected: {first.why}", subject=called)


def origin_of(node: Mapping[str, Any]) -> _Origin:
    """Return the innermost module that a node of a checked program was called in."""
    stack = node["metadata"].get("nn_module_stack") or ",,"
    _, path, kind = stack.rpartition(";")[2].split(",")
    return _Origin(_CALL_SUFFIX.sub("", path), kind)


def _cause(node: Mapping[str, Any], constants: frozenset[str]) -> _Cause | None:
    found = re.fullmatch(r"torch\.ops\.(\w+)\.(\w+)\.(\w+)", node["target"], re.ASCII)
    if not found:
        return None
    arguments = {one["name"]: one["arg"] for one in node["inputs"]}
    origin, operator = origin_of(node), f"{found[1]}::{found[2]}"
    if "batch_norm" in found[2] and _is_on(arguments):
        if arguments["input"].get("as_tensor", {}).get("name") in constants:
            return None  # of weights, which are standardized so
        return _of_batch_norm(arguments, origin)
    if not _draws_by_name(*found.groups()):
        return None
    if is_listed(found[1], found[2]) and not _may_draw(arguments, found[2]):
        return None
    if origin.is_of_torch:
        return _Cause(1, f"{origin} is in training mode, so it is random. {_TO_EVALUATE}")
    differs = "so that activations would differ from call to call"
    return _Cause(
        2 if _has_switch(arguments, found[2]) else 3,
        f"its operator {operator!r} in {origin} draws random numbers, {differs}. "
        f"{_advice(arguments, found[2])}",
    )


_TO_EVALUATE = (
    "Call model.eval() before torch.export.export. If you did, a `train` or `forward` of the "
    "network switches the mode back: set `training = False` on that module there"
)
_ONLY_WHEN_TRAINING = (
    "If that is meant for training only, tell the function so: {example}. model.eval() changes "
    "modules only, not functions"
)
_DRAWN_ONCE = (
    "model.eval() does not change that. Draw the numbers once, in __init__, and keep them: "
    "self.register_buffer('noise', torch.randn(...)); or leave them out `if not self.training`"
)


def _advice(arguments: Mapping[str, Any], operator: str) -> str:
    if operator == "scaled_dot_product_attention":
        example = "dropout_p=p if self.training else 0.0"
    elif _has_switch(arguments, operator):
        name = operator.rstrip("_").replace("feature_dropout", "dropout2d")
        example = f"{name}(x, training=self.training)"
    else:
        return _DRAWN_ONCE
    return _ONLY_WHEN_TRAINING.format(example=example)


def _of_batch_norm(arguments: Mapping[str, Any], origin: _Origin) -> _Cause:
    if "as_none" in arguments.get("running_mean", {}) or "running_mean" not in arguments:
        return _Cause(
            2,
            f"the batch norm in {origin} has no running statistics, so that an image's "
            "activations would depend on the other images of its batch, also after model.eval(). "
            "Give it some (track_running_stats=True), or use group or instance norm",
        )
    if origin.is_of_torch:
        batch = "so that an image's activations would depend on the other images of its batch"
        return _Cause(0, f"{origin} is in training mode, {batch}. {_TO_EVALUATE}")
    example = _ONLY_WHEN_TRAINING.format(example="batch_norm(x, ..., training=self.training)")
    return _Cause(
        2,
        f"the batch norm in {origin} uses the statistics of the batch, so that an image's "
        f"activations would depend on the other images of its batch. {example}",
    )


def draws(operator: Any) -> bool:
    """Return whether an operator draws random numbers, unless its arguments switch that off."""
    import torch

    name = operator._schema.name.partition("::")[2]  # noqa: SLF001 - there is no other way
    return name in _RANDOM_UNMARKED or torch.Tag.nondeterministic_seeded in operator.tags


def _draws_by_name(namespace: str, name: str, overload: str) -> bool:
    import torch

    return draws(getattr(getattr(getattr(torch.ops, namespace), name), overload))


def _may_draw(arguments: Mapping[str, Any], operator: str) -> bool:
    """Return whether an operator is switched on, and its probability is not 0."""
    if any(name in arguments for name in _SWITCHES):
        if not _is_on(arguments):
            return False
    elif operator.startswith("rrelu"):  # PyTorch's default, which programs leave out
        return False
    rate = next((arguments[name] for name in _RATES if name in arguments), None)
    if rate is None:
        return operator != "scaled_dot_product_attention"
    return any(rate.get(kind) != 0 for kind in ("as_float", "as_int") if kind in rate) or (
        "as_float" not in rate and "as_int" not in rate
    )


def _has_switch(arguments: Mapping[str, Any], operator: str) -> bool:
    return any(name in arguments for name in _SWITCHES) or "attention" in operator


def _is_on(arguments: Mapping[str, Any]) -> bool:
    """Return whether a switch is not off: it may be computed, or left to PyTorch (None)."""
    switches = [arguments[name] for name in _SWITCHES if name in arguments]
    return any(switch.get("as_bool") is not False for switch in switches)
