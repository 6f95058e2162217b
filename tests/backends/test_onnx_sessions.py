"""Sessions of onnxruntime keep the weights that they read."""

from __future__ import annotations

import gc

import numpy as np
import onnx
from onnx import helper, numpy_helper

from thingsvision_server.backends.onnx.model import Graph

COUNT = 1 << 18
"""Values of a weight: as many as memory that is freed is soon given to others."""


def test_a_session_outlives_the_graph_that_it_was_made_from() -> None:
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Add", ["image", "weight"], ["sum"])],
        "net",
        [helper.make_tensor_value_info("image", floats, [1, COUNT])],
        [helper.make_tensor_value_info("sum", floats, [1, COUNT])],
        [numpy_helper.from_array(np.ones(COUNT, "f4"), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for _ in range(5):
        session = Graph(model).session(["sum"])
        gc.collect()
        others = [b"\7" * (4 * COUNT) for _ in range(8)]  # they take what was freed
        (found,) = session.run({"image": np.zeros((1, COUNT), "f4")})
        assert len(others) == 8
        np.testing.assert_array_equal(found, 1)
