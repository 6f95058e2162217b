"""Flattens a Keras network into steps, and runs only the steps that some modules need.

Nested networks are expanded, so that a layer inside one is a step like any other. Works on the
graphs of Keras 3 and of its predecessor tf_keras.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .files import RefusedError, refuse_failures

Path = tuple[str, ...]
Slot = int
"""The number of a tensor in a pass."""


@dataclass(frozen=True)
class Step:
    """One call of one layer."""

    operation: Any
    arguments: Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    """Returns the call's arguments for the input tensors."""
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]

    def run(self, tensors: dict[Slot, Any]) -> None:
        """Call the layer and store its outputs."""
        args, kwargs = self.arguments([tensors[slot] for slot in self.inputs])
        with refuse_failures(f"layer {self.operation.name!r}"):
            output = self.operation(*args, **kwargs)
        results = _flat(output)
        tensors.update(zip(self.outputs, results, strict=True))


@dataclass(frozen=True)
class Output:
    """The output of one call: the slot of its first tensor, and its symbolic tensors."""

    slot: Slot
    symbols: tuple[Any, ...]
    names: tuple[str, ...] = ()
    """The keys, if the network returns a dict."""


@dataclass
class Module:
    """A layer or a nested network, with its calls in order."""

    path: Path
    layer: Any
    calls: list[Output] = field(default_factory=list)


@dataclass
class FlatNetwork:
    """A complete network as steps in order of execution."""

    network: Any
    steps: list[Step] = field(default_factory=list)
    modules: dict[Path, Module] = field(default_factory=dict)
    input: Slot = 0
    slot_count: int = 1

    def program(self, wanted: Sequence[Slot]) -> Program:
        """Return the steps that these tensors need; the pass stops after the last of them."""
        needed, steps = set(wanted), []
        for step in reversed(self.steps):
            if needed.intersection(step.outputs):
                steps.append(step)
                needed.update(step.inputs)
        steps.reverse()
        last_use = {slot: place for place, step in enumerate(steps) for slot in step.inputs}
        released: list[list[Slot]] = [[] for _ in steps]
        for slot, place in last_use.items():
            if slot not in wanted:
                released[place].append(slot)
        return Program(self.input, steps, released, tuple(wanted))


@dataclass(frozen=True)
class Program:
    """The part of a network that some tensors need."""

    input: Slot
    steps: list[Step]
    released: list[list[Slot]]
    """The tensors that no later step uses, for each step."""
    wanted: tuple[Slot, ...]

    def run(self, batch: Any) -> list[Any]:
        """Return the requested tensors of one forward pass in inference mode."""
        tensors = {self.input: batch}
        for step, released in zip(self.steps, self.released, strict=True):
            step.run(tensors)
            for slot in released:
                tensors.pop(slot, None)
        return [tensors[slot] for slot in self.wanted]


def flatten(network: Any) -> FlatNetwork:
    """Return the steps and modules of a network with one input; else raise RefusedError."""
    graph = check_graph(network)
    flattened = FlatNetwork(network)
    whole = flattened.modules[()] = Module((), network)
    outputs = _flatten(flattened, graph, (flattened.input,), ())
    whole.calls.append(Output(outputs[0], tuple(graph.outputs), _names(graph)))
    return flattened


def check_graph(network: Any) -> Any:
    """Return the graph of a network with one input; else raise RefusedError."""
    graph = graph_of(network)
    if graph is None:
        raise RefusedError(
            "format", "it is not a functional or sequential network, so its layers have no order"
        )
    if len(graph.inputs) != 1:
        names = ", ".join(str(symbol.name) for symbol in graph.inputs)
        raise RefusedError(
            "format", f"it must have one input, the image, got {len(graph.inputs)}: {names}"
        )
    return graph


def graph_of(operation: Any) -> Any | None:
    """Return the object that holds a network's nodes; None for a layer."""
    inner = getattr(operation, "_functional", None) or operation
    return inner if getattr(inner, "_nodes_by_depth", None) else None


def _flatten(
    flattened: FlatNetwork, graph: Any, inputs: tuple[Slot, ...], path: Path
) -> tuple[Slot, ...]:
    slots = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for node in _nodes(graph):
        operation = _operation(node)
        name = (*path, operation.name)
        if node.is_input:
            if not path:
                symbols = tuple(_outputs(node))
                call = Output(slots[id(symbols[0])], symbols)
                flattened.modules[name] = Module(name, operation, [call])
            continue
        module = flattened.modules.setdefault(name, Module(name, operation))
        taken = tuple(slots[id(symbol)] for symbol in _inputs(node))
        nested = graph_of(operation)
        if nested is not None and len(nested.inputs) == len(taken):
            given = _flatten(flattened, nested, taken, name)
        else:
            given = _add_step(flattened, node, taken)
        symbols = tuple(_outputs(node))
        slots.update(zip(map(id, symbols), given, strict=True))
        module.calls.append(Output(given[0], symbols, _names(nested)))
    return tuple(slots[id(symbol)] for symbol in graph.outputs)


def _names(graph: Any | None) -> tuple[str, ...]:
    """Return the keys of a network's output if it is a dict."""
    of_keras = getattr(graph, "_outputs_struct", None)
    given = getattr(graph, "_nested_outputs", None) if of_keras is None else of_keras
    return tuple(given) if isinstance(given, Mapping) else ()


def _add_step(flattened: FlatNetwork, node: Any, inputs: tuple[Slot, ...]) -> tuple[Slot, ...]:
    first = flattened.slot_count
    outputs = tuple(range(first, first + len(_outputs(node))))
    flattened.slot_count += len(outputs)
    flattened.steps.append(Step(_operation(node), _arguments(node), inputs, outputs))
    return outputs


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes in the order in which Keras runs them."""
    by_depth: Mapping[int, Sequence[Any]] = graph._nodes_by_depth  # noqa: SLF001 - see module
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def _operation(node: Any) -> Any:
    return node.operation if hasattr(node, "operation") else node.layer


def _inputs(node: Any) -> list[Any]:
    """Return the node's input tensors, in the order of its arguments."""
    return list(node.input_tensors if hasattr(node, "operation") else node.keras_inputs)


def _outputs(node: Any) -> list[Any]:
    return _flat(node.outputs)


def _flat(structure: Any) -> list[Any]:
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in _flat(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for part in structure for leaf in _flat(part)]
    return [structure]


class _Use:
    """A tensor wrapped as tf_keras expects it: it calls `pop`."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def pop(self) -> Any:
        return self._tensor


def _arguments(node: Any) -> Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]:
    symbols = _inputs(node)
    in_inference: dict[str, Any] = {"training": False} if _takes_training(_operation(node)) else {}

    def of_keras(tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        named = dict(zip(map(id, symbols), tensors, strict=True))
        args, kwargs = node.arguments.fill_in(named)
        return args, kwargs | in_inference

    def of_tf_keras(tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        named = zip(symbols, tensors, strict=True)
        uses = {str(id(symbol)): _Use(tensor) for symbol, tensor in named}
        args, kwargs = node.map_arguments(uses)
        return args, kwargs | in_inference

    return of_keras if hasattr(node, "operation") else of_tf_keras


def _takes_training(operation: Any) -> bool:
    return "training" in inspect.signature(operation.call).parameters
