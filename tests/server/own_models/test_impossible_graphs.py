"""ONNX graphs that no exporter writes are refused with a reason, however they are impossible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from hostile.attacks.onnx_graphs import ENDS_THE_GUEST, GRAPHS, chain, model_of, nested_functions
from thingsvision_server.backends.base import NetworkError
from thingsvision_server.backends.onnx.model import OnnxModel
from thingsvision_server.backends.onnx.structure import describe
from thingsvision_server.backends.taps import taps
from thingsvision_server.errors import DeviceMemoryError, InvalidRequestError
from thingsvision_server.sources.own.onnx_models import OnnxFile
from thingsvision_server.sources.uploads.onnx_check import read_onnx

SHAPE, COUNTS = (3, 8, 8), (2, 3)

COMPUTED = (
    "the remainder of the smallest integer and -1",
    "the remainder of C of the smallest integer and -1",
    "Trilu of integers",
)
"""Graphs that have a value: 0, and all or nothing of a matrix."""


def described(content: bytes, folder: Path) -> OnnxFile:
    path = folder / "net.onnx"
    path.write_bytes(content)
    model = OnnxFile(path, "net.onnx")
    model.structure(SHAPE, COUNTS)
    return model


@pytest.mark.parametrize("name", sorted(GRAPHS.keys() - {ENDS_THE_GUEST, *COMPUTED}))
def test_an_impossible_graph_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises((InvalidRequestError, DeviceMemoryError), match=r"net\.onnx .*: \S"):
        described(model_of(*GRAPHS[name]()), tmp_path)


@pytest.mark.parametrize("name", COMPUTED)
def test_what_has_a_value_is_computed(name: str, tmp_path: Path) -> None:
    model = described(model_of(*GRAPHS[name]()), tmp_path)
    loaded = model.load("cpu")
    wanted = taps(model.structure(SHAPE, COUNTS), ["y"])
    rows = loaded.run([np.ones((2, *SHAPE), np.float32)], wanted).rows
    assert np.isfinite(rows[0]).all()


@pytest.mark.parametrize("depth", [39, 5000])
def test_functions_that_call_each_other_are_counted_before_they_are_expanded(
    depth: int, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequestError, match=r"operators and .* bytes|too deeply"):
        described(nested_functions(depth), tmp_path)


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(nested_functions(2))
    model.functions[0].node[0].op_type, model.functions[0].node[0].domain = "f1", "own"
    with pytest.raises(InvalidRequestError, match=r"'f\d' calls itself"):
        described(model.SerializeToString(), tmp_path)


def test_functions_of_a_usual_size_are_expanded(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(nested_functions(6))
    assert len(read_onnx(path, "net").graph.node) == 2**5


def test_weights_with_other_values_than_their_shape_are_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(
        model_of([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.zeros((1, 3, 1, 1), "f4")})
    )
    for dims in ([10**12], [-1], [2**62, 2**62], [4]):
        weights = model.graph.initializer[0]
        del weights.dims[:]
        weights.dims.extend(dims)
        with pytest.raises(InvalidRequestError, match=r"\bw\b"):
            described(model.SerializeToString(), tmp_path)


def test_a_graph_of_thousands_of_operators_is_described(tmp_path: Path) -> None:
    described(chain(3000), tmp_path)


def test_what_fails_in_a_pass_alone_is_the_networks_fault() -> None:
    """A size that only some inputs have is not seen when zeros are tried."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["index"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["x", "index"], ["y"], axis=1),
    ]
    model = onnx.load_from_string(model_of(nodes, {}))
    session = OnnxModel(model, "x", "cpu")
    wanted = taps(describe(model, "x", SHAPE, COUNTS), ["y"])
    with pytest.raises(NetworkError, match="out of data bounds"):
        session.run([np.full((2, *SHAPE), 99, np.float32)], wanted)
