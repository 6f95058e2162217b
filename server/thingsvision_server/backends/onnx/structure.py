"""Lists the outputs of an ONNX model's operators: names, shapes and types, in order of execution.

Shapes come from ONNX's own shape inference for two batch sizes. A batch of zeros of each size shows
what it leaves open, and whether the model runs at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...inputs import IMAGE, InputSpec
from ..axes import with_axes
from ..modules import CallInfo, ModuleInfo, Structure
from .model import Graph, inputs_of

_Value = tuple[tuple[int, ...], str]
"""Shape including the image axis, and element type."""

_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})


def describe(
    model: Any, input_name: str, shape: tuple[int, ...], counts: tuple[int, int]
) -> Structure:
    """Return the structure of a model for one image shape; raise what onnxruntime raises."""
    first, second = _values(model, input_name, [(count, *shape) for count in counts])
    sizes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    modules = [_whole(model, _call(model.graph.output[0].name, first, second, counts), sizes)]
    for node in model.graph.node:
        for name in node.output:
            if name:
                call = _call(name, first, second, counts)
                modules.append(_module(name, node, call, sizes))
    named = with_axes(modules, {IMAGE: InputSpec(shape)})
    return Structure(tuple(named), sum(values.nbytes for values in sizes.values()))


def _call(
    name: str, first: Mapping[str, _Value], second: Mapping[str, _Value], counts: tuple[int, int]
) -> CallInfo:
    if name not in first or name not in second:
        return CallInfo(reason="its output is not a tensor")
    (shape, dtype), (other, _) = first[name], second[name]
    reason = ""
    if dtype not in _FLOATS:
        reason = f"its output is of type {dtype}, not floating point"
    elif shape[:1] + other[:1] != counts or shape[1:] != other[1:]:
        reason = f"its output has no row per image: shape {list(shape)} for {counts[0]} images"
    return CallInfo(shape[1:], dtype, reason)


def _whole(model: Any, call: CallInfo, sizes: Mapping[str, Any]) -> ModuleInfo:
    count = sum(values.size for values in sizes.values())
    kind = model.graph.name or "Model"
    return ModuleInfo(
        name="",
        type=kind,
        attributes="",
        depth=0,
        parent="",
        parameter_count=count,
        calls=(call,),
        reason=call.reason,
        modality=IMAGE,
    )


def _module(name: str, node: Any, call: CallInfo, sizes: Mapping[str, Any]) -> ModuleInfo:
    parameters = {value for value in inputs_of(node) if value in sizes}
    return ModuleInfo(
        name=name,
        type=node.op_type,
        attributes=", ".join(map(_setting, node.attribute)),
        depth=1,
        parent="",
        parameter_count=sum(sizes[value].size for value in parameters),
        calls=(call,),
        reason=call.reason,
        modality=IMAGE,
    )


def _setting(attribute: Any) -> str:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    shown = str(value) if isinstance(value, int | float | str) else ""
    if isinstance(value, Sequence) and all(isinstance(one, int | float) for one in value):
        shown = shown or str(list(value))
    return f"{attribute.name}={shown or '...'}"


def _values(
    model: Any, input_name: str, shapes: Sequence[tuple[int, ...]]
) -> list[dict[str, _Value]]:
    """Return the values computed for each of these input shapes, by name."""
    found = [_infer_values(model, input_name, shape) for shape in shapes]
    names = [name for node in model.graph.node for name in node.output if name]
    # Inference also passes over what no input fits, such as indices out of range.
    run = [name for name in names if any(name not in values for values in found)]
    run = run or [model.graph.output[0].name]
    session = Graph(model).session(run)
    for shape, values in zip(shapes, found, strict=True):
        outputs = zip(run, session.run({input_name: np.zeros(shape, np.float32)}), strict=True)
        values |= {
            name: (a.shape, str(a.dtype)) for name, a in outputs if isinstance(a, np.ndarray)
        }
    return found


def _infer_values(model: Any, input_name: str, shape: tuple[int, ...]) -> dict[str, _Value]:
    """Return the values whose shapes ONNX infers from the input shape."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    for one in sized.graph.input:
        if one.name == input_name:
            one.CopyFrom(helper.make_tensor_value_info(input_name, TensorProto.FLOAT, shape))
    for one in sized.graph.output:
        one.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}  # onnxruntime says what is wrong, or knows better
    values = {}
    for one in [*inferred.value_info, *inferred.output]:
        kind = one.type.tensor_type
        dims = [dim.dim_value for dim in kind.shape.dim]
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            values[one.name] = (tuple(dims), str(np.dtype(dtype)))
    return values
