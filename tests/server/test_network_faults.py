"""What a network's own code raises is told to its user; faults of this server stay internal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import helper, numpy_helper
from torch import nn

from support.closeness import assert_close
from support.own_files import DECLARED, onnx_file
from support.own_networks import network
from support.serving import TestServer, serving
from support.tiny_checkpoints import SQUARE, VIT, at
from thingsvision_client import Client
from thingsvision_client.errors import (
    InvalidRequestError,
    InvalidWeightsError,
    PreconditionError,
    ServerError,
)
from thingsvision_server.backends.base import NetworkError
from thingsvision_server.backends.torch import model as torch_model
from thingsvision_server.backends.torch import structure
from thingsvision_server.backends.torch.faults import call_network
from thingsvision_server.engine.reduction import Reduction

GREY = VIT | {"num_channels": 1}
VIDEO = VIT | {"num_frames": 4, "tubelet_size": 2, "decoder_num_hidden_layers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    cropped = {"size": {"shortest_edge": 32}, "crop_size": SQUARE}
    other_size = {"size": {"height": 48, "width": 48}}
    vit, movie = transformers.ViTImageProcessor, transformers.VideoMAEImageProcessor
    video = transformers.VideoMAEModel(transformers.VideoMAEConfig(**VIDEO))
    for name, net, processor in (
        ("grey", transformers.ViTModel(transformers.ViTConfig(**GREY)), vit(size=SQUARE)),
        ("video", video, movie(**cropped)),
        ("sizes", transformers.ViTModel(transformers.ViTConfig(**VIT)), vit(**other_size)),
    ):
        net.save_pretrained(at(root, name))
        processor.save_pretrained(at(root, name))
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TestServer]:
    with serving(folder, drain_seconds=1.0) as running:
        yield running


# ---------------------------------------------------------------- checkpoints of transformers


def test_a_checkpoint_of_grey_images_takes_arrays_and_refuses_images(
    client: Client, folder: Path, photos: list[Path]
) -> None:
    model = "transformers/grey"
    assert {module.name for module in client.modules(model)} >= {"embeddings", "layernorm"}
    with pytest.raises(InvalidRequestError, match=r"images of 1 channel.*arrays of 1 x 32 x 32"):
        client.extract(model, photos, "layernorm")
    inputs = np.random.default_rng(0).normal(size=(2, 1, 32, 32)).astype(np.float32)
    found = client.extract(model, inputs, "layernorm").features["layernorm"]
    own = transformers.ViTModel.from_pretrained(at(folder, "grey")).eval()
    with torch.inference_mode():
        expected = own(torch.from_numpy(inputs)).last_hidden_state.numpy()
    assert_close(found, expected)
    with pytest.raises(InvalidRequestError, match="3 x 32 x 32"):
        client.extract(model, np.zeros((2, 3, 32, 32), np.float32), "layernorm")


def test_a_checkpoint_of_videos_takes_arrays_and_refuses_images(
    client: Client, folder: Path, photos: list[Path]
) -> None:
    model = "transformers/video"
    assert client.modules(model)
    with pytest.raises(InvalidRequestError, match=r"videos of 4 frames.* 4 x 3 x 32 x 32"):
        client.extract(model, photos, "encoder.layer.0")
    video = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    found = client.extract(model, [("video", video)], "encoder.layer.0").features["encoder.layer.0"]
    own = transformers.VideoMAEModel.from_pretrained(at(folder, "video")).eval()
    with torch.inference_mode():
        hidden = own(torch.from_numpy(video[None]), output_hidden_states=True).hidden_states
    assert_close(found, hidden[1].numpy())


def test_what_a_checkpoints_network_raises_is_a_sentence_with_its_shape(
    client: Client, photos: list[Path]
) -> None:
    for call in (
        lambda: client.modules("transformers/sizes"),
        lambda: client.extract("transformers/sizes", photos, "layernorm"),
        lambda: client.load("transformers/sizes"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            call()
        sentence = str(caught.value)
        assert "the network of transformers/sizes fails for inputs of 3 x 48 x 48" in (sentence)
        assert "(48*48)" in sentence


# ---------------------------------------------------------------- ONNX


def test_an_onnx_model_of_no_images_is_refused_at_the_upload(
    client: Client, tmp_path: Path
) -> None:
    for size in (0, -1):
        path = onnx_file(network(1), tmp_path / f"none{size}.onnx", batch=size)
        with pytest.raises(InvalidWeightsError, match=rf"'image' .*1 or more.* got {size}: "):
            client.upload_model(path, DECLARED)


def test_what_an_onnx_graph_raises_in_a_pass_is_told(client: Client, tmp_path: Path) -> None:
    """Zeros, which the outline is made with, are places of the table; larger values are not."""
    nodes = [
        helper.make_node("Cast", ["image"], ["places"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "places"], ["looked_up"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3, 4, 4])
        for name in ("image", "looked_up")
    ]
    table = [numpy_helper.from_array(np.arange(5, dtype=np.float32), "table")]
    graph = helper.make_graph(nodes, "Lookup", ends[:1], ends[1:], table)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "lookup.onnx").write_bytes(model.SerializeToString())
    name = client.upload_model(tmp_path / "lookup.onnx", {"crop_pixels": [4]})
    inputs = np.ones((2, 3, 4, 4), np.float32)
    assert client.extract(name, inputs, "looked_up").features["looked_up"].max() == 1
    with pytest.raises(InvalidRequestError, match=r"fails for inputs of 3 x 4 x 4: .*out of data"):
        client.extract(name, inputs * 9, "looked_up")


# ---------------------------------------------------------------- Keras

KERAS = """
import sys
import keras
from keras import layers
def ends(*inputs):
    mixed = layers.Add()(inputs) if len(inputs) > 1 else inputs[0]
    return layers.Dense(2)(layers.GlobalAveragePooling2D()(mixed))
left, right = (layers.Input((8, 8, 3), name=name) for name in ("left", "right"))
keras.Model([left, right], ends(left, right)).save(sys.argv[1] + "/two.keras")
keras.Model({"left": left, "right": right}, ends(left, right)).save(sys.argv[1] + "/named.keras")
image = layers.Input((8, 8, 3), name="image")
looked_up = layers.Embedding(4, 2, name="table")(image)
keras.Model(image, layers.Flatten()(looked_up)).save(sys.argv[1] + "/lookup.keras")
"""


def test_faults_of_keras_networks_are_told(client: Client, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KERAS, tmp_path], check=True, timeout=200)
    for name in ("two", "named"):
        with pytest.raises(InvalidWeightsError, match=r"one input, the image, got 2: left, right"):
            client.upload_model(tmp_path / f"{name}.keras", {"crop_pixels": [8]})
    name = client.upload_model(tmp_path / "lookup.keras", {"crop_pixels": [8]})
    inputs = np.ones((2, 8, 8, 3), np.float32)
    assert client.extract(name, inputs, "table").features["table"].shape == (2, 8, 8, 3, 2)
    for _ in range(4):  # from the third pass on as a graph
        client.extract(name, inputs, "table")
        with pytest.raises(InvalidRequestError, match=r"fails for inputs of 8 x 8 x 3: .*\[0, 4\)"):
            client.extract(name, inputs * 9, "table")


# ---------------------------------------------------------------- PyTorch

EXPORTED = """
import sys
import torch
from torch import nn

class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 2)
    def forward(self, x):
        return self.table(x.long()).flatten(1)

images = torch.zeros(2, 3, 4, 4)
dims = ({0: torch.export.Dim("batch")},)
torch.export.save(torch.export.export(Lookup(), (images,), dynamic_shapes=dims), sys.argv[1])
"""


def test_what_an_exported_network_raises_in_a_pass_is_told(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "lookup.pt2"
    subprocess.run([sys.executable, "-c", EXPORTED, path], check=True, timeout=200)
    model = client.upload_model(path, {"crop_pixels": [4]})
    inputs = np.ones((2, 3, 4, 4), np.float32)
    assert client.extract(model, inputs, "table").features["table"].shape == (2, 3, 4, 4, 2)
    sentence = r"the network of own/.* fails for inputs of 3 x 4 x 4: IndexError: index out of"
    with pytest.raises(InvalidRequestError, match=sentence):
        client.extract(model, inputs * 9, "table")
    with pytest.raises(InvalidRequestError, match=sentence):
        client.rdm(model, inputs * 9, "table")


class Raising(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (KeyError("weights"), "KeyError: 'weights'"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (RuntimeError("first line\nsecond"), "first line"),
        (AssertionError(), "AssertionError: "),
    ],
)
def test_whatever_a_networks_code_raises_is_its_own(error: Exception, sentence: str) -> None:
    with pytest.raises(NetworkError) as caught:
        call_network(Raising(error), torch.zeros(2, 3, 4, 4))
    assert (str(caught.value), caught.value.shape) == (sentence, (3, 4, 4))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA error: an illegal memory access"), PreconditionError("x")],
)
def test_faults_of_the_device_are_not_the_networks(error: Exception) -> None:
    if isinstance(error, PreconditionError):
        from thingsvision_server.errors import PreconditionError as OnServer

        error = OnServer("x")
    with pytest.raises(type(error)) as caught:
        call_network(Raising(error), torch.zeros(1, 3, 4, 4))
    assert caught.value is error


# ---------------------------------------------------------------- faults of the server

RESNET = "torchvision/resnet18@random:77"


@pytest.mark.parametrize(
    ("owner", "name"),
    [(torch_model, "first_tensor"), (torch_model._TapHook, "_keep"), (Reduction, "apply")],
)
def test_a_fault_injected_into_a_pass_stays_internal(
    client: Client, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    from thingsvision_client import Reduction as Chosen

    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError("injected")

    images, options = np.zeros((1, 3, 64, 64), np.float32), {"reduction": Chosen(units=[0])}
    assert client.extract(RESNET, images, "layer1", **options).images == ["0"]
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(ServerError, match="request id"):
        client.extract(RESNET, images, "layer1", **options)


def test_a_fault_injected_into_the_outline_stays_internal(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_output: Any) -> Any:
        raise ValueError("injected")

    monkeypatch.setattr(structure, "_shape_of", fail)
    with pytest.raises(ServerError, match="request id"):
        client.modules("torchvision/resnet34@random:77")
    with pytest.raises(ServerError, match="request id"):  # also for other sizes than its own
        client.extract("torchvision/resnet34@random:77", np.zeros((1, 3, 64, 64), np.float32), "fc")
