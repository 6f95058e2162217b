"""Checks that a program reads no memory that it allocated without writing to it (`torch.empty`).

Whether every element is written can't be told from the graph alone. So the program runs twice, with
other values in that memory, and no result may differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from ...errors import InvalidWeightsError
from .exported_check import graphs, image_size
from .exported_program import load_program

_UNWRITTEN = frozenset(
    {
        "empty",
        "empty_like",
        "empty_permuted",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
    }
)
_OVERWRITING = frozenset({"copy_", "fill_", "zero_"})
"""Operators after which every element of their first argument is written."""

_FILLS = ((float("nan"), 0), (1.0, 1))
"""What the memory holds in each of the two runs: floats, and integers that are valid indices."""

_OPEN_SIZE = 224
"""Height and width of the images if a program takes any size, pixels."""


def check_written(path: Path, program: dict[str, Any], called: str) -> None:
    """Raise InvalidWeightsError if a result depends on what unwritten memory holds.

    `program` is the content that `read_program` returns for the file.
    """
    if not any(map(_has_suspects, graphs(program["graph_module"]))):
        return
    images = _images(program)
    try:
        module = load_program(path, program).module(check_guards=False)
        first, second = (_digests(module, images, *fill) for fill in _FILLS)
    # The program can't be loaded or run: the check of its outline says why.
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError):
        return
    reader = next((node for node, digest in first.items() if second[node] != digest), None)
    if reader is not None:
        raise InvalidWeightsError(_sentence(reader, called), subject=called)


def _images(program: Mapping[str, Any]) -> torch.Tensor:
    (least, most), shape = image_size(program)
    count = min(max(least, 2), most or 2)
    random = torch.Generator().manual_seed(0)
    return torch.randn((count, *(size or _OPEN_SIZE for size in shape)), generator=random)


def _digests(module: Any, images: torch.Tensor, fill: float, integer: int) -> Mapping[fx.Node, str]:
    run = _PoisonedRun(module, fill, integer)
    with torch.inference_mode():
        run.run(images)
    return run.digests


def _has_suspects(graph: Mapping[str, Any]) -> bool:
    nodes = graph["nodes"]
    for place, node in enumerate(nodes):
        if _name(node["target"]) not in _UNWRITTEN:
            continue
        made = [one["as_tensor"]["name"] for one in node["outputs"] if "as_tensor" in one]
        user = next((one for one in nodes[place + 1 :] if made[0] in _inputs_of(one)), None)
        if (
            user is None
            or _name(user["target"]) not in _OVERWRITING
            or _inputs_of(user)[0] != made[0]
        ):
            return True
    return False


def _inputs_of(node: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors that a node takes, in order."""
    return list(_tensor_names([one["arg"] for one in node["inputs"]]))


def _tensor_names(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for entry in part:
            yield from _tensor_names(entry)
    elif isinstance(part, dict):
        for kind, entry in part.items():
            if kind == "as_tensor":
                yield entry["name"]
            elif kind in ("as_tensors", "as_optional_tensors"):
                yield from (one["name"] for one in entry if "name" in one)
                yield from _tensor_names(entry)


def _name(target: str) -> str:
    return target.split(".")[-2] if target.startswith("torch.ops.") else ""


class _PoisonedRun(fx.Interpreter):
    """A pass in which unwritten memory holds given values."""

    def __init__(self, module: Any, fill: float, integer: int) -> None:
        super().__init__(module)
        self._fill, self._integer = fill, integer
        self._memory: set[fx.Node] = set()
        """The nodes whose result is such memory, or a view of it."""
        self._dependent: set[fx.Node] = set()
        self.digests: dict[fx.Node, str] = {}
        """Of each result that was computed from such memory."""

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node, and keep the digest of what may depend on the memory."""
        result = super().run_node(n)
        if is_unwritten(n):
            self._memory.add(n)
            self._dependent.add(n)
            return self._fill_memory(result)
        if self._dependent.isdisjoint(n.all_input_nodes):
            return result
        self._dependent.add(n)
        if _keeps_memory(n) and n.all_input_nodes[0] in self._memory:
            self._memory.add(n)
            if not _reads_others(n, self._memory):
                return result
        self.digests[n] = _digest(result)
        return result

    def _fill_memory(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.fill_(self._fill if tensor.is_floating_point() else self._integer)


def is_unwritten(node: fx.Node) -> bool:
    """Return whether a node allocates memory without writing to it."""
    target = node.target
    return isinstance(target, OpOverload) and target._schema.name.split("::")[1] in _UNWRITTEN  # noqa: SLF001


def _keeps_memory(node: fx.Node) -> bool:
    """Return whether a node's result is its first argument, changed in place or viewed."""
    if not isinstance(node.target, OpOverload):  # e.g. getitem of chunks
        return node.op == "call_function"
    arguments = node.target._schema.arguments  # noqa: SLF001 - there is no other way
    return bool(arguments) and arguments[0].alias_info is not None


def _reads_others(node: fx.Node, memory: set[fx.Node]) -> bool:
    return any(one in memory for one in node.all_input_nodes[1:])


def _digest(result: Any) -> str:
    digest = hashlib.blake2b()
    for tensor in result if isinstance(result, tuple | list) else [result]:
        if isinstance(tensor, torch.Tensor):
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        else:
            digest.update(repr(tensor).encode())
    return digest.hexdigest()


def _sentence(reader: fx.Node, called: str) -> str:
    allocation = next(_allocations(reader))
    operator = str(allocation.target).removesuffix(".default").replace(".", "::", 1)
    operator = operator.partition(".")[0]
    stack = allocation.meta.get("nn_module_stack") or {}
    path, kind = next(reversed(stack.values()), ("", ""))
    kind = str(getattr(kind, "__name__", kind)).rpartition(".")[2]
    path = path.partition("@")[0]
    where = f"module {path!r} ({kind})" if path else f"the network itself ({kind})"
    return (
        f"{called} is rejected: its operator {operator!r} in {where} allocates memory that is read "
        "before it is written, so that activations would differ from call to call. "
        "model.eval() does not change that. Use torch.zeros or torch.ones, or write every element"
    )


def _allocations(node: fx.Node) -> Iterator[fx.Node]:
    """Yield the allocations that a node depends on, the nearest first."""
    seen, queue = {node}, [node]
    while queue:
        one = queue.pop(0)
        if is_unwritten(one):
            yield one
        new = [source for source in one.all_input_nodes if source not in seen]
        seen.update(new)
        queue += new
