"""Turns the graph of an exported program into one flat graph with a call for each module's output.

Operators under another autocast or gradient mode are in graphs of their own; they are put in their
places. Marks of the client become calls of the modules that they stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import getitem
from typing import Any, cast

import torch
from torch import fx
from torch._ops import HigherOrderOperator

from ..uploads.exported_operators import words
from .exported_guards import guard_operators

_Context = Any


def pass_on(parts: Any, number: int, output: Any) -> None:
    """Call the part of a number with what its module returned, for the hooks on it."""
    parts[number](output)


def enter_autocast(contexts: list[_Context], *setting: Any) -> None:
    """Begin what `torch.autocast` with (device, element type, enabled, cache) begins."""
    device, dtype, enabled, cache = setting
    context = torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=cache)
    context.__enter__()  # type: ignore[no-untyped-call]
    contexts.append(context)


def leave_autocast(contexts: list[_Context]) -> None:
    """End what began last."""
    contexts.pop().__exit__(None, None, None)


class FlatGraph:
    """The operators of a program in one graph; contexts and parts are inputs of it."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.graph = fx.Graph()
        module = program.graph_module
        given = [node for node in module.graph.nodes if node.op == "placeholder"]
        values: dict[fx.Node, Any] = {node: self.graph.node_copy(node) for node in given}
        self.placeholders: list[fx.Node] = list(values.values())
        self._contexts = self.graph.placeholder("thingsvision_contexts")
        self._parts = self.graph.placeholder("thingsvision_parts")
        self.marks: list[tuple[fx.Node, int]] = []
        """Of each mark, in order: the operator that returns what it sees, and its number."""
        self.outputs = self._copy(module, values)

    def call_after(self, node: fx.Node, part: int, output: Any) -> fx.Node:
        """Call a part with an output, right after an operator."""
        with self.graph.inserting_after(node):
            return self.graph.call_function(pass_on, (self._parts, part, output))

    def compile(self) -> fx.GraphModule:
        """Return a function of the placeholders' values, contexts and parts; it returns nothing."""
        for node in self.graph.nodes:
            node.meta = {}  # it has tensors without memory, which can't be copied
        guard_operators(self.graph)
        self.graph.output(())
        return fx.GraphModule({}, self.graph)

    def _copy(self, module: fx.GraphModule, values: dict[fx.Node, Any]) -> Any:
        """Append the operators of a graph, and return its results."""
        for node in module.graph.nodes:
            if node.op == "output":
                return fx.map_arg(node.args[0], values.__getitem__)
            if node.op != "call_function":  # placeholders have values; graphs inside are looked up
                continue
            if isinstance(node.target, HigherOrderOperator):
                values[node] = self._copy_inner(module, node, values)
            elif isinstance(results := values.get(node.args[0]), tuple | list):
                values[node] = results[node.args[1]]
            elif is_mark(node):
                tensor, number = node.args
                self.marks.append((values[tensor], number))
                self.graph.call_function(pass_on, (self._parts, number, values[tensor]))
            else:
                values[node] = self.graph.node_copy(node, values.__getitem__)
        raise ValueError("a graph in it has no output")

    def _copy_inner(self, module: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        """Append the operators of a graph inside, in the mode that it runs in."""
        place = next(i for i, one in enumerate(node.args) if _is_graph(one))
        setting, inputs = node.args[:place], node.args[place + 1 :]
        path = str(cast("fx.Node", node.args[place]).target)
        inner = cast("fx.GraphModule", module.get_submodule(path))
        given = [one for one in inner.graph.nodes if one.op == "placeholder"]
        arguments = [fx.map_arg(one, values.__getitem__) for one in inputs]
        changes_autocast = len(setting) > 1
        if changes_autocast:
            self.graph.call_function(enter_autocast, (self._contexts, *setting))
        results = self._copy(inner, dict(zip(given, arguments, strict=True)))
        if changes_autocast:
            self.graph.call_function(leave_autocast, (self._contexts,))
        return results


def is_mark(node: fx.Node) -> bool:
    """Return whether an operator is a mark of the client."""
    return node.target is torch.ops.thingsvision.output.default


def _is_graph(argument: Any) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def written_inputs(flat: FlatGraph) -> frozenset[int]:
    """Return the numbers of the inputs that operators overwrite, themselves or by a view."""
    inputs: dict[Any, set[int]] = {node: {number} for number, node in enumerate(flat.placeholders)}
    written: set[int] = set()
    for node in flat.graph.nodes:
        for value, is_written in _shared_arguments(node):
            found = inputs.get(value)
            if found:
                inputs.setdefault(node, set()).update(found)
                if is_written:
                    written |= found
    return frozenset(written)


_MAY_RETURN_ARGUMENTS = words(
    """
    _pad_enum _unsafe_view alpha_dropout atleast_1d atleast_2d atleast_3d broadcast_tensors
    cartesian_prod dropout einsum feature_alpha_dropout feature_dropout meshgrid native_dropout pad
    sum_to_size type_as unsafe_chunk unsafe_split unsafe_split_with_sizes
    """
)
"""Operators whose results may be their arguments, or views of them, unlike their schema says."""


def _shared_arguments(node: fx.Node) -> Iterator[tuple[fx.Node, bool]]:
    """Yield the arguments that a node's result may share memory with, and whether it writes."""
    if node.target is getitem:
        yield cast("fx.Node", node.args[0]), False
        return
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return
    shares = schema.name.partition("::")[2] in _MAY_RETURN_ARGUMENTS
    given = dict(zip((one.name for one in schema.arguments), node.args, strict=False))
    given |= node.kwargs
    for argument in schema.arguments:
        info = argument.alias_info
        if argument.name in given and (shares or info is not None):
            values: list[fx.Node] = []
            fx.map_arg(given[argument.name], values.append)
            for value in values:
                yield value, info is not None and info.is_write
