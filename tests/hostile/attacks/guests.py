"""Programs that run well on zeros, and never end or take all memory on other images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from thingsvision_client import Client
from thingsvision_client.errors import DeadlineError, DeviceMemoryError

from .registry import Target, attack

_SHAPE = (3, 8, 8)
_QUIET, _LOUD = np.zeros(_SHAPE, np.float32), np.ones(_SHAPE, np.float32)
_SECONDS = 2.0
_AGAIN_SECONDS = 60.0


def _value(name: str, kind: int, shape: Any = None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _program(path: Path, nodes: list[Any], factor: float) -> Path:
    """Write a program of an image `x`, its largest value times a factor `n`, and an output `y`."""
    start = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "factor"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["n"], to=TensorProto.INT64),
    ]
    constants = {"factor": np.float32(factor), "one": np.float32(1), "true": np.array(True)}
    weights = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    images = [_value("x", TensorProto.FLOAT, ["batch", *_SHAPE])]
    outputs = [_value("y", TensorProto.FLOAT, ["batch", *_SHAPE])]
    graph = helper.make_graph([*start, *nodes], "program", images, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def _loop() -> list[Any]:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go on"], ["goes on"]),
            helper.make_node("Add", ["value", "one"], ["next"]),
        ],
        "turn",
        [
            _value("turn", TensorProto.INT64, []),
            _value("go on", TensorProto.BOOL, []),
            _value("value", TensorProto.FLOAT),
        ],
        [_value("goes on", TensorProto.BOOL, []), _value("next", TensorProto.FLOAT)],
    )
    return [helper.make_node("Loop", ["n", "true", "x"], ["y"], body=body)]


def _fill() -> list[Any]:
    return [
        helper.make_node("ConstantOfShape", ["count"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]


def _features(client: Client, model: Any, image: Any) -> Any:
    return client.extract(model, [("a", image)], "y").features["y"]


@attack()
def a_program_that_never_ends(target: Target) -> None:
    """Run a loop of 10^18 turns for 2 s, then leave: its process is ended soon after."""
    path = _program(target.folder / "loop.onnx", _loop(), 1e18)
    with Client(target.address) as client:
        model = client.upload_model(path)
        assert _features(client, model, _QUIET).shape == (1, *_SHAPE)
    with Client(target.address, timeout=_SECONDS) as client, pytest.raises(DeadlineError):
        _features(client, model, _LOUD)
    started = time.monotonic()
    with Client(target.address, timeout=_AGAIN_SECONDS) as client:
        assert not _features(client, model, _QUIET).any()
    assert time.monotonic() - started < _AGAIN_SECONDS


@attack()
def a_program_that_takes_all_memory(target: Target) -> None:
    """Ask a program for 40 TB: the pass fails, and the program answers again."""
    shape = helper.make_node("Reshape", ["n", "flat"], ["count"])
    flat = helper.make_node("Constant", [], ["flat"], value_ints=[1])
    path = _program(target.folder / "fill.onnx", [flat, shape, *_fill()], 1e13)
    with Client(target.address) as client:
        model = client.upload_model(path)
        with pytest.raises(DeviceMemoryError):
            _features(client, model, _LOUD)
        assert not _features(client, model, _QUIET).any()
