"""Moves the arithmetic of sizes out of the modules of an exported program.

An exported graph computes each size once, in the first module that needs it. That module would
pass the number on along with its activations, and its output would no longer be a tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

_STACK = "nn_module_stack"


def lift_sizes(program: torch.export.ExportedProgram) -> None:
    """Make the network itself, before its modules, compute every size derived from its input."""
    graph = program.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    images = next(n for n in placeholders if n.name in program.graph_signature.user_inputs)
    sizes = {str(size): axis for axis, size in enumerate(images.meta["val"].shape)}
    root = _root_stack(graph)
    lifted: dict[str, fx.Node] = {}
    last = placeholders[-1]
    for node in list(graph.nodes):
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, torch.SymInt):
            continue
        if str(value) in lifted:
            node.replace_all_uses_with(lifted[str(value)])
            graph.erase_node(node)
            continue
        if str(value) in sizes:
            node.target = torch.ops.aten.sym_size.int
            node.args = (images, sizes[str(value)])
        elif not all(argument in lifted.values() for argument in node.all_input_nodes):
            continue
        node.meta[_STACK] = root
        last.append(node)
        last = lifted[str(value)] = node


def _root_stack(graph: fx.Graph) -> dict[str, Any]:
    """Return the module stack of an operator that belongs to the network itself."""
    stack: dict[str, Any] = next(n.meta[_STACK] for n in graph.nodes if n.meta.get(_STACK))
    return dict(list(stack.items())[:1])
