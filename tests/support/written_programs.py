"""Programs of `torch.export` (.pt2) written operator by operator, as no exporter writes them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

LONG, FLOAT = 5, 7
"""The format's numbers for element types."""

_BATCH = {"expr_str": "Symbol('s77', positive=True, integer=True)", "hint": {"as_int": 2}}
_SHAPE = [{"as_expr": _BATCH}, *({"as_int": size} for size in (3, 8, 8))]
_BY_NAME = ("dtype", "rounding_mode")
"""Arguments that operators take by name alone."""

_LEAF = {"type": None, "context": None, "children_spec": []}


def node(target: str, output: str, **inputs: Any) -> dict[str, Any]:
    """Return an operator; a text among the inputs is the name of a tensor."""
    given = [
        {"name": name, "arg": _argument(one), "kind": 2 if name in _BY_NAME else 1}
        for name, one in inputs.items()
    ]
    return {
        "target": target if target.startswith("_operator.") else f"torch.ops.aten.{target}",
        "inputs": given,
        "outputs": [{"as_tensor": {"name": output}}],
        "metadata": {"nn_module_stack": "L__self__,,__main__.Net"},
        "is_hop_single_tensor_return": None,
        "name": output,
    }


def _argument(value: Any) -> dict[str, Any]:
    match value:
        case dict():
            return value
        case None:
            return {"as_none": True}
        case bool():
            return {"as_bool": value}
        case int():
            return {"as_int": value}
        case float():
            return {"as_float": value}
        case str():
            return {"as_tensor": {"name": value}}
        case [str(), *_]:
            return {"as_tensors": [{"name": name} for name in value]}
        case [float(), *_]:
            return {"as_floats": list(value)}
    return {"as_ints": list(value)}


def text(value: str) -> dict[str, Any]:
    """Return a text as an argument."""
    return {"as_string": value}


def dtype(number: int) -> dict[str, Any]:
    """Return an element type as an argument."""
    return {"as_scalar_type": number}


def _value(number: int, shape: Sequence[Any]) -> dict[str, Any]:
    strides = [{"as_int": size} for size in (192, 64, 8, 1)][-len(shape) :]
    return {
        "dtype": number, "sizes": list(shape), "requires_grad": False,
        "device": {"type": "cpu", "index": None}, "strides": strides,
        "storage_offset": {"as_int": 0}, "layout": 7,
    }  # fmt: skip


def program(nodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a program of images `x` (3 x 8 x 8) that returns what its last operator computes."""
    result = {"as_tensor": {"name": nodes[-1]["name"]}}
    image = {"as_tensor": {"name": "x"}}
    values = {"x": _value(FLOAT, _SHAPE)} | {one["name"]: _value(FLOAT, _SHAPE) for one in nodes}
    nested = {"type": "builtins.tuple", "context": "null", "children_spec": [_LEAF]}
    empty = {"type": "builtins.dict", "context": "[]", "children_spec": []}
    given = {"type": "builtins.tuple", "context": "null", "children_spec": [nested, empty]}
    graph = {
        "inputs": [image], "outputs": [result], "nodes": list(nodes), "tensor_values": values,
        "sym_int_values": {}, "sym_bool_values": {}, "is_single_tensor_return": False,
        "custom_obj_values": {}, "sym_float_values": {},
    }  # fmt: skip
    signature = {
        "inputs": [], "outputs": [], "in_spec": json.dumps([1, given]),
        "out_spec": json.dumps([1, _LEAF]), "forward_arg_names": ["x"],
    }  # fmt: skip
    module = {
        "graph": graph,
        "signature": {
            "input_specs": [{"user_input": {"arg": image}}],
            "output_specs": [{"user_output": {"arg": result}}],
        },
        "module_call_graph": [{"fqn": "", "signature": signature}],
        "metadata": {}, "treespec_namedtuple_fields": {},
    }  # fmt: skip
    return {
        "graph_module": module, "opset_version": {"aten": 10},
        "range_constraints": {"s77": {"min_val": 0, "max_val": None}},
        "schema_version": {"major": 8, "minor": 20}, "verifiers": ["TRAINING"],
        "torch_version": "2.9.0", "guards_code": [],
    }  # fmt: skip


def archive(
    model: bytes | dict[str, Any] | Sequence[dict[str, Any]],
    *,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """Return an archive of a program."""
    if not isinstance(model, bytes):
        model = json.dumps(model if isinstance(model, dict) else program(model)).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as written:
        for name, content in {
            "data/weights/model_weights_config.json": b'{"config": {}}',
            "data/constants/model_constants_config.json": b'{"config": {}}',
            "models/model.json": model,
            "archive_format": b"pt2",
            "archive_version": b"0",
            ".data/version": b"6\n",
            "byteorder": b"little",
        }.items():
            written.writestr(zipfile.ZipInfo(f"net/{name}"), content, compression)
    return file.getvalue()
