"""Checks that an ONNX model is complete, uses standard operators, and has one image input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import InvalidWeightsError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""Domains of standard operators; the operators of any other domain are custom code."""


def check_onnx(path: Path, called: str) -> None:
    """Raise InvalidWeightsError unless a file is an ONNX model that can be run here."""
    read_onnx(path, called)


def read_onnx(path: Path, called: str) -> Any:
    """Return the checked ModelProto, weights included, with its own functions inlined."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.inliner import inline_local_functions

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise _invalid(called, f"it can't be read ({error})") from error
    _check_texts(model, called)
    _check_content(model, called)
    _check_functions(model, called)
    try:
        if model.functions:
            model = inline_local_functions(model)
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, *_BROKEN) as error:
        raise _invalid(called, str(error).strip().partition("\n")[0]) from error
    _check_values(model, called)
    _check_mode(model.graph, called)
    _check_input(model, called)
    return model


_BROKEN = (IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)
"""What ONNX raises for a model that makes no sense."""

_MOST_OPERATORS = 1_000_000
_MOST_BYTES = 1024**3
"""Operators of a model, and bytes of them, with its functions in the places of their calls."""


def _check_functions(model: Any, called: str) -> None:
    """Raise if the model's functions, in the places of their calls, are too many operators."""
    functions = {(one.domain, one.name): one for one in model.functions}
    costs: dict[tuple[str, str], tuple[int, int]] = {}

    def cost_of(graph: Any, inside: frozenset[tuple[str, str]]) -> tuple[int, int]:
        operators = size = 0
        for node in _nodes(graph):
            key = node.domain, node.op_type
            if key in inside:
                raise _invalid(called, f"its function {node.op_type!r} calls itself")
            if key in functions and key not in costs:
                costs[key] = cost_of(functions[key], inside | {key})
            more, more_bytes = costs.get(key, (1, 0))
            operators, size = operators + more, size + more_bytes + _own_bytes(node)
        return operators, size

    if not functions:
        return
    try:
        operators, size = cost_of(model.graph, frozenset())
    except RecursionError as error:
        raise _invalid(called, "its functions call each other too deeply") from error
    if operators > _MOST_OPERATORS or size > _MOST_BYTES:
        raise _invalid(
            called,
            f"with its functions in the places of their calls it has {operators:,} operators and "
            f"{size:,} bytes of them, and at most {_MOST_OPERATORS:,} and {_MOST_BYTES:,} are read",
        )


def _own_bytes(node: Any) -> int:
    """Return the size of an operator without the operators of its subgraphs, bytes."""
    inner = (graph for one in node.attribute for graph in (one.g, *one.graphs))
    inner_bytes = sum(int(one.ByteSize()) for graph in inner for one in graph.node)
    return int(node.ByteSize()) - inner_bytes


def _check_values(model: Any, called: str) -> None:
    """Raise if a tensor of the model has another number of values than its shape."""
    from onnx import numpy_helper

    for tensor in _tensors(model):
        if not tensor.data_type:  # an attribute without a tensor
            continue
        try:
            numpy_helper.to_array(tensor)
        except _BROKEN as error:
            raise _invalid(
                called, f"its tensor {tensor.name!r} of shape {list(tensor.dims)}: {error}"
            ) from error


def image_input(model: Any) -> Any:
    """Return the image input of a checked model (older files list their weights as inputs too)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return next(one for one in model.graph.input if one.name not in weights)


def _check_texts(model: Any, called: str) -> None:
    """Raise if a name is not UTF-8: protobuf then gives bytes, which no reply can hold."""
    graphs = [model.graph, *model.functions]
    texts: list[Any] = [one.name for one in (*graphs, *_tensors(model))]
    texts += [one.name for one in (*model.graph.input, *model.graph.output)]
    for node in (node for graph in graphs for node in _nodes(graph)):
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
        texts += [one.name for one in node.attribute]
    if broken := [one for one in texts if not isinstance(one, str)]:
        raise _invalid(called, f"a name in it is not UTF-8: {broken[0]!r}")


def _check_content(model: Any, called: str) -> None:
    if not model.graph.node or not model.opset_import:
        raise _invalid(called, "it has no operators")
    own = {function.domain for function in model.functions}
    graphs = [model.graph, *model.functions]
    for node in (node for graph in graphs for node in _nodes(graph)):
        if node.domain not in (*DOMAINS, *own):
            raise _refusal(
                called,
                f"its operator {node.op_type!r} is from the domain {node.domain!r}, which is "
                "custom code. Export the model with standard operators (domain ai.onnx)",
            )
    for tensor in _tensors(model):
        if tensor.external_data or tensor.data_location == tensor.EXTERNAL:
            raise _refusal(
                called,
                f"its tensor {tensor.name!r} is in another file. Save all in one file: "
                "onnx.save(model, path, save_as_external_data=False)",
            )


_RANDOM = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
"""Operators whose values differ from run to run."""


def _check_mode(graph: Any, called: str) -> None:
    """Raise if features would be random, as in a network that is still in training mode."""
    switches = dict(_switches(graph))
    for node in _nodes(graph):
        if node.op_type in _RANDOM:
            raise _refusal(
                called,
                f"its operator {node.op_type!r}{_place(node)} draws random numbers, so that "
                "activations would differ from call to call. model.eval() does not change that: "
                "draw the numbers once and keep them as a weight, or leave them out",
            )
        if _is_training(node, switches):
            raise _refusal(
                called,
                f"its operator {node.op_type!r}{_place(node)} is in training mode. Call "
                "model.eval() before the export, and export for inference; a function such as "
                "F.dropout needs training=self.training",
            )


def _place(node: Any) -> str:
    return f" ({node.name})" if node.name else ""


def _switches(graph: Any) -> Iterator[tuple[str, bool]]:
    """Yield the names of boolean constants, and whether any of their elements is true."""
    from onnx import TensorProto, numpy_helper

    named = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in _nodes(graph):
        if node.op_type == "Constant":
            named += [(node.output[0], one.t) for one in node.attribute if one.name == "value"]
    for name, tensor in named:
        if tensor.data_type == TensorProto.BOOL:
            yield name, bool(numpy_helper.to_array(tensor).any())


def _is_training(node: Any, switches: Mapping[str, bool]) -> bool:
    if node.op_type == "BatchNormalization":
        return any(one.name == "training_mode" and one.i for one in node.attribute)
    mode = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
    # A mode that the graph computes may be true.
    return bool(mode) and switches.get(mode, True)


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of the subgraphs in their attributes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(model: Any) -> Iterator[Any]:
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        for node in _nodes(graph):
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors, attribute.sparse_tensor.values)
                for inner in (attribute.g, *attribute.graphs):
                    yield from _initializers(inner)
    yield from _initializers(model.graph)


def _initializers(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _check_input(model: Any, called: str) -> None:
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs) or "none"
        raise _invalid(called, f"it must have one input, of images, got {names}")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT or len(kind.shape.dim) < 2:
        raise _invalid(
            called,
            f"its input {inputs[0].name!r} must be a float32 tensor of 2 dimensions or more, "
            "images first. A network of integers converts them in its forward, as with x.long(); "
            "export it with float32",
        )
    sizes = [dim.dim_value for dim in kind.shape.dim if dim.HasField("dim_value")]
    if wrong := [size for size in sizes if size < 1]:
        raise _invalid(
            called,
            f"each axis of its input {inputs[0].name!r} must have a size of 1 or more, or a name "
            f"for any size, got {wrong[0]}: export it with dynamic_axes={{{inputs[0].name!r}: "
            "{0: 'batch'}}",
        )


def _invalid(called: str, why: str) -> InvalidWeightsError:
    return InvalidWeightsError(f"{called} is not a usable ONNX model: {why}")


def _refusal(called: str, why: str) -> InvalidWeightsError:
    return InvalidWeightsError(f"{called} is rejected: {why}")
