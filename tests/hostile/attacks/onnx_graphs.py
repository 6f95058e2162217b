"""ONNX graphs that no exporter writes: each is refused, or fails as a network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from thingsvision_client import Client
from thingsvision_client.errors import DeviceMemoryError, InvalidRequestError

from .registry import Target, attack

_FLOAT, _INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
_SMALLEST = np.iinfo(np.int64).min

Graph = tuple[Sequence[Any], Mapping[str, Any]]
"""Operators, and the constants that they read."""


def model_of(
    nodes: Sequence[Any], weights: Mapping[str, Any], functions: Sequence[Any] = ()
) -> bytes:
    """Return a file of a graph from images `x` (3 x 8 x 8) to the last operator's output."""
    image = helper.make_tensor_value_info("x", _FLOAT, ["n", 3, 8, 8])
    result = helper.make_tensor_value_info(nodes[-1].output[0], _FLOAT, ["a", "b", "c", "d"])
    graph = helper.make_graph(
        list(nodes), "net", [image], [result],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))
    content: bytes = made.SerializeToString()
    return content


def nested_functions(depth: int) -> bytes:
    """Return a file of functions that call each other twice."""
    functions = []
    for level in range(depth):
        called = f"f{level - 1}"
        if level:
            body = [
                helper.make_node(called, ["a"], ["b"], domain="own"),
                helper.make_node(called, ["b"], ["c"], domain="own"),
            ]
        else:
            body = [helper.make_node("Relu", ["a"], ["c"])]
        opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["c"], body, opset))
    last = helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain="own")
    return model_of([last], {}, functions)


def _loop(turns: int) -> Graph:
    body = helper.make_graph(
        [helper.make_node("Relu", ["v"], ["w"]), helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [
            helper.make_tensor_value_info("i", _INT64, []),
            helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", _FLOAT, ["n", 3, 8, 8]),
        ],
        [
            helper.make_tensor_value_info("d", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", _FLOAT, ["n", 3, 8, 8]),
        ],
    )
    node = helper.make_node("Loop", ["turns", "on", "x"], ["y"], body=body)
    return [node], {"turns": np.int64(turns), "on": np.bool_(True)}


def _on_integers(kind: str, one: int, other: int, **settings: Any) -> Graph:
    """Return a graph that computes with two integers, of which the file does not know the first."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=_INT64),
        helper.make_node("Mul", ["whole", "none"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["first"]),
        helper.make_node(kind, ["first", "other"], ["result"], **settings),
        helper.make_node("Cast", ["result"], ["y"], to=_FLOAT),
    ]
    numbers = {"none": 0, "one": one, "other": other}
    return nodes, {name: np.int64(value) for name, value in numbers.items()}


def _alone(kind: str, inputs: list[str], weights: Mapping[str, Any], **settings: Any) -> Graph:
    return [helper.make_node(kind, inputs, ["y"], **settings)], weights


def _ints(*values: int) -> Any:
    return np.array(values, np.int64)


def _floats(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def _one_hot(depth: int) -> Graph:
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=_INT64),
        helper.make_node("OneHot", ["whole", "depth", "values"], ["y"]),
    ]
    return nodes, {"depth": np.int64(depth), "values": np.array([0, 1], np.float32)}


GRAPHS: Mapping[str, Callable[[], Graph]] = {
    "Expand to 10^12": lambda: _alone("Expand", ["x", "s"], {"s": _ints(10**5, 3, 10**7, 8)}),
    "Expand beyond integers": lambda: _alone("Expand", ["x", "s"], {"s": _ints(2**62, 3, 8, 8)}),
    "Gather out of range": lambda: _alone("Gather", ["x", "i"], {"i": _ints(10**12)}, axis=1),
    "GatherElements out of range": lambda: _alone(
        "GatherElements", ["x", "i"], {"i": np.full((1, 1, 1, 1), 10**12)}, axis=1
    ),
    "GatherND out of range": lambda: _alone("GatherND", ["x", "i"], {"i": _ints(10**12)}),
    "ScatterElements out of range": lambda: _alone(
        "ScatterElements", ["x", "i", "u"],
        {"i": np.full((1, 1, 1, 1), -(10**12)), "u": _floats(1, 1, 1, 1)},
    ),
    "ScatterND out of range": lambda: _alone(
        "ScatterND", ["x", "i", "u"], {"i": np.full((1, 4), 10**12), "u": _floats(1)}
    ),
    "integer division by 0": lambda: _on_integers("Div", 5, 0),
    "the smallest integer divided by -1": lambda: _on_integers("Div", _SMALLEST, -1),
    "a remainder of 0": lambda: _on_integers("Mod", 5, 0),
    "the remainder of the smallest integer and -1": lambda: _on_integers("Mod", _SMALLEST, -1),
    "the remainder of C of the smallest integer and -1": lambda: _on_integers(
        "Mod", _SMALLEST, -1, fmod=1
    ),
    "Conv with group 0": lambda: _alone("Conv", ["x", "w"], {"w": _floats(4, 3, 1, 1)}, group=0),
    "Conv with negative group": lambda: _alone(
        "Conv", ["x", "w"], {"w": _floats(4, 3, 1, 1)}, group=-3
    ),
    "Conv with stride 0": lambda: _alone(
        "Conv", ["x", "w"], {"w": _floats(4, 3, 1, 1)}, strides=[0, 0]
    ),
    "Conv with padding of 10^12": lambda: _alone(
        "Conv", ["x", "w"], {"w": _floats(4, 3, 1, 1)}, pads=[10**12] * 4
    ),
    "ConvTranspose with group 0": lambda: _alone(
        "ConvTranspose", ["x", "w"], {"w": _floats(3, 4, 1, 1)}, group=0
    ),
    "MaxPool with stride 0": lambda: _alone(
        "MaxPool", ["x"], {}, kernel_shape=[2, 2], strides=[0, 0]
    ),
    "AveragePool of nothing": lambda: _alone("AveragePool", ["x"], {}, kernel_shape=[0, 0]),
    "Pad by 10^11": lambda: _alone("Pad", ["x", "p"], {"p": _ints(*[0] * 7, 10**11)}),
    "Pad by less than there is": lambda: _alone("Pad", ["x", "p"], {"p": _ints(*[0] * 7, -100)}),
    "Tile to 10^12": lambda: _alone("Tile", ["x", "r"], {"r": _ints(1, 10**6, 10**6, 1)}),
    "Tile less than never": lambda: _alone("Tile", ["x", "r"], {"r": _ints(1, -1, 1, 1)}),
    "OneHot of depth 10^11": lambda: _one_hot(10**11),
    "OneHot of negative depth": lambda: _one_hot(-5),
    "Reshape to negative sizes": lambda: _alone("Reshape", ["x", "s"], {"s": _ints(-5, 3)}),
    "Reshape to other sizes": lambda: _alone("Reshape", ["x", "s"], {"s": _ints(7, 11)}),
    "zeros of negative sizes": lambda: _alone("ConstantOfShape", ["s"], {"s": _ints(-5, 3)}),
    "10^12 zeros": lambda: _alone("ConstantOfShape", ["s"], {"s": _ints(10**6, 10**6)}),
    "a range of 10^12": lambda: _alone(
        "Range", ["a", "b", "c"], {k: np.float32(v) for k, v in [("a", 0), ("b", 1e12), ("c", 1)]}
    ),
    "a range by 0": lambda: _alone(
        "Range", ["a", "b", "c"], {k: np.float32(v) for k, v in [("a", 0), ("b", 1), ("c", 0)]}
    ),
    "a resize to 10^12": lambda: _alone(
        "Resize", ["x", "", "s"], {"s": np.array([1, 1, 1e6, 1e6], np.float32)}
    ),
    "a resize to nothing": lambda: _alone(
        "Resize", ["x", "", "s"], {"s": np.array([1, 1, -1, float("nan")], np.float32)}
    ),
    "Split beyond the end": lambda: _alone("Split", ["x", "s"], {"s": _ints(10**9)}, axis=1),
    "SpaceToDepth by 0": lambda: _alone("SpaceToDepth", ["x"], {}, blocksize=0),
    "DepthToSpace by 0": lambda: _alone("DepthToSpace", ["x"], {}, blocksize=0),
    "TopK of 10^12": lambda: (
        [helper.make_node("TopK", ["x", "k"], ["y", "i"])], {"k": _ints(10**12)}
    ),
    "Slice by 0": lambda: _alone(
        "Slice", ["x", "a", "b", "c", "d"],
        {"a": _ints(0), "b": _ints(9), "c": _ints(1), "d": _ints(0)},
    ),
    "Transpose of an axis twice": lambda: _alone("Transpose", ["x"], {}, perm=[0, 0, 0, 0]),
    "Concat at a far axis": lambda: _alone("Concat", ["x", "x"], {}, axis=99),
    "weights of another shape": lambda: _alone("MatMul", ["x", "w"], {"w": _floats(5, 7)}),
    "a batch norm of other sizes": lambda: _alone(
        "BatchNormalization", ["x", *"abcd"], {one: _floats(1) for one in "abcd"}
    ),
    "an instance norm of other sizes": lambda: _alone(
        "InstanceNormalization", ["x", "a", "b"], {one: _floats(1) for one in "ab"}
    ),
    "an equation of nothing": lambda: _alone("Einsum", ["x"], {}, equation="zzzzzzzz->q"),
    "Trilu of integers": lambda: _alone("Trilu", ["x", "k"], {"k": np.int64(_SMALLEST)}),
}  # fmt: skip


ENDS_THE_GUEST = "the smallest integer divided by -1"
"""Processors have no result for it; onnxruntime's process ends."""

_TRIED = (
    ENDS_THE_GUEST,
    "Conv with group 0",
    "Gather out of range",
    "OneHot of depth 10^11",
    "Pad by less than there is",
    "Tile to 10^12",
    "integer division by 0",
)


@attack()
def graphs_of_impossible_sizes(target: Target) -> None:
    """Upload ONNX graphs of sizes, indices and divisors that no tensor can have."""
    for number, name in enumerate(_TRIED):
        path = target.folder / f"{number}.onnx"
        path.write_bytes(model_of(*GRAPHS[name]()))
        with (
            Client(target.address) as client,
            pytest.raises((InvalidRequestError, DeviceMemoryError)),
        ):
            client.upload_model(path)


@attack()
def functions_in_functions(target: Target) -> None:
    """Upload 2.5 KB of ONNX functions that call each other, 2^39 operators in all."""
    path = target.folder / "functions.onnx"
    path.write_bytes(nested_functions(39))
    with (
        Client(target.address) as client,
        pytest.raises(InvalidRequestError, match="operators"),
    ):
        client.upload_model(path)


def chain(length: int) -> bytes:
    """Return a file of a graph of so many operators."""
    names = ["x", *(f"v{one}" for one in range(length))]
    pairs = itertools.pairwise(names)
    return model_of([helper.make_node("Relu", [one], [other]) for one, other in pairs], {})


@attack(is_long=True)
def many_operators(target: Target) -> None:
    """Upload an ONNX graph of 50,000 operators."""
    path = target.folder / "many.onnx"
    path.write_bytes(chain(50_000))
    with Client(target.address) as client:
        client.upload_model(path)


@attack(is_long=True)
def endless_loops(target: Target) -> None:
    """Upload an ONNX Loop of 2^62 turns, which ends after the processor time that it may take."""
    path = target.folder / "loop.onnx"
    path.write_bytes(model_of(*_loop(2**62)))
    with Client(target.address, timeout=7200) as client, pytest.raises(InvalidRequestError):
        client.upload_model(path)
