"""Finds the outputs of modules, where they are certain, in programs that do not record them.

A plain program says of each operator in which module it is. What leaves a module is its output, if
that is one tensor. But if a module computed something that nothing uses, or has parameters that
nothing uses, then its first output may be that, or be gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import getitem
from typing import Any, cast

import torch
from torch import fx

from ..uploads.exported_outline import Outline, OutlinedModule
from .exported_graph import FlatGraph

_STACK = "nn_module_stack"
_REPEATED = re.compile(r"@\d+")
_NO_MODULE = "_empty_nn_module_stack"
"""Begins what PyTorch writes for operators whose module it does not know."""

_RECORDED = "or send the network with get_extractor_from_model, which records every output"
_SEVERAL = f"""it has several outputs, and an exported file does not keep their order; \
request a module inside it, {_RECORDED}"""
_SECOND = f"""only its second or a later output is used, and an exported file keeps no others; \
request a module inside it, {_RECORDED}"""
_PART_UNUSED = f"""nothing uses a part of what it computes, and that may be its first output; \
request a module inside it, {_RECORDED}"""
_UNUSED = f"""nothing uses its output, so the exported file does not have it; \
request a module inside it, {_RECORDED}"""


@dataclass
class _Call:
    """One call of a module: its operators, and the module's name and class."""

    name: str
    kind: str
    nodes: dict[fx.Node, None] = field(default_factory=dict)


def call_outputs(flat: FlatGraph, program: torch.export.ExportedProgram) -> Outline:
    """Make a graph call parts with their modules' outputs; return the modules, with reasons."""
    _complete_stacks(flat.graph)
    calls = _calls(flat.graph)
    unused = _unused_parameters(flat, program)
    modules = {call.name: OutlinedModule(call.name, (call.kind,)) for call in calls}
    modules = {"": modules.get("", OutlinedModule(""))} | modules
    numbers = {name: number for number, name in enumerate(modules)}
    reasons: dict[str, str] = {}
    output = next(_nodes_in(flat.outputs), None)
    if output is not None:  # first, so that it comes after the calls at the same place
        flat.call_after(list(flat.graph.nodes)[-1], numbers[""], output)
    for call in calls:
        if not call.name:
            continue
        found = _output(call, unused, flat.outputs)
        if isinstance(found, str):
            reasons[call.name] = found
        else:
            flat.call_after(_last_of(call), numbers[call.name], found)
    return Outline(tuple(modules.values()), marks=tuple(modules), reasons=reasons)


def _complete_stacks(graph: fx.Graph) -> None:
    """Count what takes one of several results to the module of the operator that returned them."""
    for node in graph.nodes:
        if node.target is getitem and not node.meta.get(_STACK):
            node.meta[_STACK] = node.args[0].meta.get(_STACK, {})


def _calls(graph: fx.Graph) -> list[_Call]:
    """Return the calls, the first to start first."""
    calls: dict[str, _Call] = {}
    for node in graph.nodes:
        # The key differs from call to call; the path is the name, in some versions with a number.
        for key, (path, kind) in node.meta.get(_STACK, {}).items():
            if key.startswith(_NO_MODULE):
                continue
            call = _Call(_REPEATED.sub("", path), str(kind))
            calls.setdefault(key, call).nodes[node] = None
    return list(calls.values())


def _output(call: _Call, unused: frozenset[str], results: Any) -> fx.Node | str:
    """Return the operator that computes a call's output, or why that isn't certain."""
    returned = set(_nodes_in(results))
    leaving = [
        node
        for node in call.nodes
        if isinstance(node.meta.get("val"), torch.Tensor)
        and (node in returned or any(user not in call.nodes for user in node.users))
    ]
    if not leaving:
        return _UNUSED
    if len(leaving) > 1:
        return _SEVERAL
    if leaving[0].target is getitem and leaving[0].args[1] != 0:
        return _SECOND
    parameters_unused = any(name.startswith(f"{call.name}.") for name in unused)
    if parameters_unused or any(map(_is_unused_result, call.nodes)):
        return _PART_UNUSED
    return leaving[0]


def _is_unused_result(node: fx.Node) -> bool:
    """Return whether a tensor was computed for nothing, which the module may have returned."""
    if node.users or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    if node.target is getitem:  # e.g. the indices of a maximum come after its values
        results, place = cast("tuple[fx.Node, int]", node.args)
        used = (user.args for user in results.users if user.target is getitem and user.users)
        return any(cast("int", other) > place for _, other in used)
    schema = getattr(node.target, "_schema", None)
    return schema is None or not schema.is_mutable


def _last_of(call: _Call) -> fx.Node:
    return next(reversed(call.nodes))


def _unused_parameters(flat: FlatGraph, program: torch.export.ExportedProgram) -> frozenset[str]:
    """Return the names of parameters that no operator takes, under another name neither."""
    names: Mapping[str, str] = program.graph_signature.inputs_to_parameters
    by_use: dict[bool, list[str]] = {True: [], False: []}
    for node in flat.placeholders:
        if node.name in names:
            by_use[bool(node.users)].append(names[node.name])
    state = program.state_dict
    return frozenset(
        name
        for name in by_use[False]
        if not any(_is_same(state[name], state[used]) for used in by_use[True])
    )


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _nodes_in(results: Any) -> Iterator[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(results, lambda node: found.append(node))
    yield from found
