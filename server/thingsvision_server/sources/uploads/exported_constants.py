"""Finds the tensors of an exported program that don't depend on its images, such as scaled weights.

What is computed of weights alone is the same at each call, whatever it does with them: weights are
standardized by a batch norm of their own statistics, for example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_KEPT = ("parameter", "buffer", "tensor_constant")
"""Inputs of a program that are part of the network."""


def find_constants(program: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the tensors that are computed of the network's weights alone.

    Graphs that operators call are left out. If an operator overwrites such a tensor, there are
    none: another name may be of the same memory.
    """
    module = program["graph_module"]
    constants = set(_inputs(module["signature"]["input_specs"]))
    for node in module["graph"]["nodes"]:
        taken = list(_tensors([one["arg"] for one in node["inputs"]]))
        operator = node["target"].split(".")[-2]
        if operator.endswith("_") and taken and taken[0] in constants:
            return frozenset()
        is_called = any("as_graph" in one["arg"] for one in node["inputs"])
        if taken and not is_called and constants.issuperset(taken):
            constants.update(_tensors(node["outputs"]))
    return frozenset(constants)


def _inputs(specs: list[Mapping[str, Any]]) -> Iterator[str]:
    for spec in specs:
        for kind in _KEPT:
            if kind in spec:
                yield spec[kind]["arg"]["name"]


def _tensors(part: Any) -> Iterator[str]:
    """Yield the names of tensors and sizes in a part of a program, in their order."""
    if isinstance(part, Mapping):
        if isinstance(part.get("name"), str):
            yield part["name"]
        if isinstance(part.get("as_name"), str):
            yield part["as_name"]
        for one in part.values():
            yield from _tensors(one)
    elif isinstance(part, list):
        for one in part:
            yield from _tensors(one)
