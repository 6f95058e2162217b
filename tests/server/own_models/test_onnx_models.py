"""ONNX models: run by onnxruntime, tapped by the names in their graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from support.closeness import assert_close
from support.own_files import DECLARED, hooked, inputs, onnx_file
from support.own_networks import network
from thingsvision_client import Client
from thingsvision_client.errors import (
    InvalidRequestError,
    InvalidWeightsError,
    NotExtractableError,
    UnknownModuleError,
)


def test_an_onnx_model_gives_what_onnxruntime_and_pytorch_give(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    net, path = network(6), tmp_path / "net.onnx"
    model = client.upload_model(onnx_file(net, path), DECLARED)
    modules = {module.name: module for module in client.modules(model)}
    assert list(modules)[:4] == ["", "stem/conv", "stem/norm", "act"]
    assert (modules["stem/conv"].type, modules["stem/conv"].output_shape) == ("Conv", (8, 16, 16))
    assert "strides=[2, 2]" in modules["stem/conv"].attributes
    assert modules["stem/conv"].parameter_count == 3 * 8 * 9 + 8
    assert "int64, not floating point" in modules["shape"].reason
    batch = inputs(photos)
    result = client.extract(model, photos, ["stem/conv", "body", "logits", ""]).features
    plain = onnxruntime.InferenceSession(path).run(None, {"image": batch.numpy()})[0]
    assert_close(result["logits"], plain)
    np.testing.assert_array_equal(result["logits"], result[""])
    for name, place in {"stem.0": "stem/conv", "body.0": "body", "head": "logits"}.items():
        expected = hooked(net, batch, [name])[name]
        assert_close(result[place], expected)
    entry = {one.name: one for one in client.models("own")}[model.name]
    assert entry.backend == "onnx"


def test_outputs_whose_shape_depends_on_the_images_are_the_networks_fault(
    client: Client, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("ReduceSum", ["flat", "first"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["chosen"]),
        helper.make_node("Compress", ["flat", "chosen"], ["kept"], axis=1),
    ]
    weights = [
        numpy_helper.from_array(np.array([0], "i8"), "first"),
        numpy_helper.from_array(np.array(0, "f4"), "zero"),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("image", floats, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("kept", floats, ["n", "k"])],
        weights,
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    model = client.upload_model(path)
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32")
    assert client.extract(model, images, "flat").features["flat"].shape == (2, 48)
    # The outline, of images of zeros, chooses nothing.
    fault = r"'kept' returned \[[12], \d+\] instead of \[[12], 0\]: .* depends on the values"
    with pytest.raises(InvalidRequestError, match=fault):
        client.extract(model, images, "kept")


def test_a_tap_of_onnx_has_the_same_bits_whatever_else_is_asked_for(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    model = client.upload_model(onnx_file(network(7), tmp_path / "net.onnx"), DECLARED)
    names = ["stem/conv", "stem/norm", "act", "body", "mean", "logits"]
    together = client.extract(model, photos, names, batch_size=3).features
    for name in names:
        alone = client.extract(model, photos, [name], batch_size=3).features[name]
        np.testing.assert_array_equal(alone, together[name])


def test_an_onnx_model_of_one_image_runs_images_one_by_one(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    net = network(8)
    model = client.upload_model(onnx_file(net, tmp_path / "one.onnx", batch=1), DECLARED)
    result = client.extract(model, photos, "logits").features["logits"]
    expected = hooked(net, inputs(photos), ["head"])["head"]
    assert_close(result, expected)


def test_modules_without_a_row_per_image_are_refused(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    model = client.upload_model(onnx_file(network(9), tmp_path / "net.onnx"), DECLARED)
    with pytest.raises(NotExtractableError, match=r"'shape'.*int64, not floating point"):
        client.extract(model, photos, "shape")
    with pytest.raises(UnknownModuleError, match="Did you mean 'stem/conv'"):
        client.extract(model, photos, "stem/con")


def set_training(graph: Any) -> None:
    (node,) = (node for node in graph.node if node.op_type == "BatchNormalization")
    node.attribute.append(helper.make_attribute("training_mode", 1))


def add_dropout(graph: Any) -> None:
    tensors = {"ratio": np.float32(0.5), "mode": np.bool_(True)}
    graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in tensors.items())
    graph.node[-1].input[0] = "dropped"
    graph.node.append(helper.make_node("Dropout", ["mean", "ratio", "mode"], ["dropped"]))


def add_noise(graph: Any) -> None:
    graph.node[-1].input[0] = "noise"
    graph.node.append(helper.make_node("RandomNormalLike", ["mean"], ["noise"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_training, r"'BatchNormalization'.* is in training mode. Call model.eval\(\)"),
        (add_dropout, r"'Dropout'.* is in training mode. Call model.eval\(\)"),
        (add_noise, "'RandomNormalLike'.* draws random numbers"),
    ],
)
def test_what_gives_other_features_each_time_is_refused(
    client: Client, tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    path = onnx_file(network(17), tmp_path / "net.onnx")
    model = onnx.load(path)
    change(model.graph)
    last = model.graph.node[-1]
    if last.op_type != "Gemm":  # a graph's nodes are in the order of their computing
        model.graph.node.remove(last)
        model.graph.node.insert(len(model.graph.node) - 1, last)
    onnx.save(model, path)
    with pytest.raises(InvalidWeightsError, match=words):
        client.upload_model(path, DECLARED)


def test_dropout_that_does_nothing_is_taken(client: Client, tmp_path: Path) -> None:
    path = onnx_file(network(18), tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.node[-1].input[0] = "dropped"
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Dropout", ["mean"], ["dropped"])
    )
    onnx.save(model, path)
    assert "dropped" in {
        module.name for module in client.modules(client.upload_model(path, DECLARED))
    }


def test_a_module_called_image_is_refused_with_the_name_that_works(
    client: Client, tmp_path: Path, photos: list[Path]
) -> None:
    path = onnx_file(network(10), tmp_path / "net.onnx")
    program = onnx.load(path)
    called = {"image": "pixels", "act": "image"}
    program.graph.input[0].name = "pixels"
    for node in program.graph.node:
        node.input[:] = [called.get(name, name) for name in node.input]
        node.output[:] = [called.get(name, name) for name in node.output]
    onnx.save(program, tmp_path / "renamed.onnx")
    model = client.upload_model(tmp_path / "renamed.onnx", DECLARED)
    sentence = "'image' has the same name as .* column of image names.* 'image@t=0'"
    for call in (client.extract, client.rdm):
        with pytest.raises(NotExtractableError, match=sentence):
            call(model, photos, ["body", "image"])
    result = client.extract(model, photos, ["image@t=0", "body"]).features
    expected = client.extract(client.upload_model(path, DECLARED), photos, "act").features["act"]
    np.testing.assert_array_equal(result["image@t=0"], expected)
