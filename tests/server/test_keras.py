"""Models of keras.applications, asked for over a socket, are what plain Keras computes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image as Pillow

from support.checkout import SUPPORT
from support.closeness import DEEP, assert_close
from support.serving import open_sources, serving
from thingsvision_client import Client
from thingsvision_client.errors import (
    BackendCrashedError,
    InvalidRequestError,
    UnknownModelError,
    UnknownModuleError,
    UnknownWeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.tensorflow.model import KerasArchitecture, TensorFlowRuntime
from thingsvision_server.errors import UnknownModelError as ServerUnknownModelError
from thingsvision_server.inputs import PreprocessingOverrides, override
from thingsvision_server.sources.base import ModelKey, Random
from thingsvision_server.sources.context import SourceContext
from thingsvision_server.sources.keras.images import keras_transform
from thingsvision_server.sources.keras.source import open_source
from thingsvision_server.sources.weights.folder import WeightsFolder

MOBILENET_FILE = "keras-mobilenetv2-imagenet.weights.h5"
CACHED_AS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
LAYERS = ["Conv1", "block_4_add", "block_16_project_BN", "predictions"]
STEM = ["convnext_tiny_stem_conv", "convnext_tiny_stem_layernorm"]

KEPT = "keras/MobileNetV2@random:7"

FAMILIES = [
    ("keras", "NASNetMobile", "nasnet", 224, "input_layer"),
    ("keras", "VGG16", "vgg16", 224, "input_layer"),
    ("keras", "DenseNet121", "densenet", 224, "input_layer"),
    ("keras", "EfficientNetB1", "efficientnet", 240, "input_layer"),
    ("tf_keras", "RegNetX002", "regnet", 224, "input_1"),
    ("tf_keras", "ResNetRS50", "resnet_rs", 224, "input_1"),
]
"""Package, class, the documentation's name of its family, its input size, its first layer."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder of weights."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Client]:
    """A client whose server keeps one model of Keras, so that TensorFlow starts only once."""
    _of_others[:] = _all_children()
    with pytest.MonkeyPatch.context() as patch:
        # What the user of this machine has downloaded must not decide.
        patch.setenv("KERAS_HOME", str(root / "home"))
        with serving(root, drain_seconds=1.0) as server, Client(server.address) as connected:
            connected.pin(KEPT)
            yield connected


@pytest.fixture(scope="module")
def weights_file(shared_data: Path) -> Path:
    return shared_data / MOBILENET_FILE


@pytest.fixture(scope="module")
def keras_2_file(plain: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights in the layout of the files that Keras publishes; plain Keras wrote it."""
    return tmp_path_factory.getbasetemp() / "keras-2.h5"


@pytest.fixture(scope="module")
def plain(
    tmp_path_factory: pytest.TempPathFactory, weights_file: Path, photos: list[Path]
) -> dict[str, dict[str, Any]]:
    """What plain Keras computes in a process of its own."""
    folder = tmp_path_factory.mktemp("reference")
    keras_2 = str(tmp_path_factory.getbasetemp() / "keras-2.h5")
    paths = [str(path) for path in photos]
    mobilenet = {"package": "keras", "name": "MobileNetV2", "family": "mobilenet_v2"}
    mobilenet |= {"paths": paths, "layers": LAYERS}
    tasks: dict[str, Any] = {
        "pretrained": (
            "activations",
            mobilenet | {"weights": str(weights_file), "save_as": keras_2},
        ),
        "seeded": ("activations", mobilenet | {"seed": 7}),
        "nested": ("nested", {"package": "keras", "layers": STEM, "paths": paths[:2]}),
    }
    for package, name, family, size, _ in FAMILIES:
        arguments = {"package": package, "name": family, "paths": paths[:2], "size": [size, size]}
        tasks[name] = ("preprocessed", arguments)
    (folder / "tasks.json").write_text(json.dumps(list(tasks.values())))
    command = [sys.executable, SUPPORT / "keras_reference.py", "tasks.json", "found.npz"]
    subprocess.run(command, cwd=folder, check=True)
    with np.load(folder / "found.npz") as found:
        arrays = dict(found)
    return {
        task: {key.partition(":")[2]: a for key, a in arrays.items() if int(key.split(":")[0]) == n}
        for n, task in enumerate(tasks)
    }


# ---------------------------------------------------------------- what is computed


def test_trained_weights_give_what_plain_keras_gives(
    client: Client, weights_file: Path, photos: list[Path], plain: dict[str, dict[str, Any]]
) -> None:
    sha256 = client.upload_weights(weights_file)
    model = f"keras/MobileNetV2@sha256:{sha256}"
    found = client.extract(model, photos, LAYERS, batch_size=len(photos))
    for layer in LAYERS:
        assert_close(found.features[layer], plain["pretrained"][layer], DEEP)
    expected = plain["pretrained"]["predictions"]
    assert found.features["predictions"].argmax(1).tolist() == expected.argmax(1).tolist()
    assert found.features["predictions"].argmax(1)[1] == 285, "the cat is an Egyptian cat"
    assert found.provenance.framework.startswith("tensorflow 2.")
    assert " keras 3." in found.provenance.framework
    client.unload(model)


def test_a_seed_gives_what_the_user_gets_from_the_same_seed(
    client: Client, photos: list[Path], plain: dict[str, dict[str, Any]]
) -> None:
    model = KEPT
    found = client.extract(model, photos, [*LAYERS, ""], batch_size=len(photos))
    for layer in LAYERS:
        np.testing.assert_array_equal(found.features[layer], plain["seeded"][layer])
    np.testing.assert_array_equal(found.features[""], found.features["predictions"])


def test_layers_of_networks_inside_a_network(
    client: Client, photos: list[Path], plain: dict[str, dict[str, Any]]
) -> None:
    model = "keras/ConvNeXtTiny@random:0"
    names = [f"convnext_tiny_stem/{layer}" for layer in STEM]
    listed = {module.name: module for module in client.modules(model)}
    assert {listed[name].parent for name in names} == {"convnext_tiny_stem"}
    found = client.extract(model, photos[:2], names, batch_size=2)
    for name, layer in zip(names, STEM, strict=True):
        np.testing.assert_array_equal(found.features[name], plain["nested"][layer])
    client.unload(model)


@pytest.mark.parametrize(("package", "name", "family", "size", "first"), FAMILIES)
def test_each_family_has_its_own_preprocessing(
    client: Client,
    photos: list[Path],
    plain: dict[str, dict[str, Any]],
    package: str,
    name: str,
    family: str,
    size: int,
    first: str,
) -> None:
    """The first layer gives out the network's input as it is."""
    model = f"keras/{name}@random:0"
    found = client.extract(model, photos[:2], first, batch_size=2)
    np.testing.assert_array_equal(found.features[first], plain[name][""])
    told = found.provenance.preprocessing
    assert f"{package}.src.applications.{family}.preprocess_input" in told.description
    rebuilt = as_told(told, photos[:2])
    assert_close(found.features[first], rebuilt)
    assert rebuilt.shape == (2, size, size, 3)
    client.unload(model)


def as_told(told: Any, photos: list[Path]) -> Any:
    """Preprocess by nothing but the data of the reply."""
    height, width = told.resize_pixels
    pixels = [
        np.asarray(Pillow.open(path).convert("RGB").resize((width, height), Pillow.BILINEAR))
        for path in photos
    ]
    values = np.stack(pixels).astype(np.float64)
    if told.value_range == "0..1":
        values /= 255
    if told.channel_order == "BGR":
        values = values[..., ::-1]
    return (values - (told.mean or (0, 0, 0))) / (told.std or (1, 1, 1))


# ---------------------------------------------------------------- what is taken


def test_ready_tensors_are_taken_as_they_are(client: Client) -> None:
    tensors = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype(np.float32)
    named = [("a", tensors[0]), ("b", tensors[1])]
    found = client.extract(KEPT, named, "input_layer", batch_size=2)
    np.testing.assert_array_equal(found.features["input_layer"], tensors)


def test_overrides_change_the_cut_and_leave_the_familys_values(photos: list[Path]) -> None:
    scale, offset = (1 / 127.5,) * 3, (-1.0,) * 3
    architecture = KerasArchitecture(
        Structure((), 0), (224, 224, 3), None, "some.family", (0, 1, 2), scale, offset
    )
    own = keras_transform(architecture, finish=lambda pixels: pixels)
    picture = Pillow.open(photos[1]).convert("RGB")
    cut = override(own, PreprocessingOverrides(resize_pixels=(256,), crop_pixels=(224,)))
    left, top = (round((side - 224) / 2) for side in shorter_side(picture, 256).size)
    expected = shorter_side(picture, 256).crop((left, top, left + 224, top + 224))
    assert (cut.spec.dtype, cut.spec.shape) == ("uint8", (224, 224, 3))
    np.testing.assert_array_equal(cut.apply(picture), np.asarray(expected))
    assert "some.family.preprocess_input" in cut.preprocessing.description
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    scaled = override(own, PreprocessingOverrides(mean=mean, std=std))
    assert (scaled.spec.dtype, scaled.preprocessing.value_range) == ("float32", "0..1")
    expected_values = (own.apply(picture) / 255 - mean) / std
    np.testing.assert_allclose(scaled.apply(picture), expected_values, atol=1e-6)
    assert "preprocess_input" not in scaled.preprocessing.description


def shorter_side(picture: Pillow.Image, side: int) -> Pillow.Image:
    width, height = picture.size
    scale = side / min(width, height)
    return picture.resize((int(width * scale), int(height * scale)), Pillow.BILINEAR)


# ---------------------------------------------------------------- listing and weights


def test_every_class_is_listed_without_tensorflow(tmp_path: Path) -> None:
    before = set(sys.modules)
    started = time.thread_time()
    source = open_sources(tmp_path)["keras"]
    entries = {entry.name: entry for entry in source.entries(source.names())}
    assert time.thread_time() - started < 1
    assert not {"tensorflow", "keras", "tf_keras"} & (set(sys.modules) - before)
    families = {"MobileNetV2", "NASNetLarge", "RegNetY320", "ResNetRS420", "VGG19", "Xception"}
    assert families <= set(entries)
    assert {entry.backend for entry in entries.values()} == {"tf"}
    assert [one.tag for one in entries["VGG19"].pretrained] == ["imagenet"]


@pytest.mark.parametrize(
    "place",
    [
        "keras/MobileNetV2.imagenet.weights.h5",
        f"keras/models/{CACHED_AS}",
        f"home/models/{CACHED_AS}",
    ],
)
def test_weights_are_found_where_keras_has_them(
    client: Client, root: Path, weights_file: Path, keras_2_file: Path, place: str
) -> None:
    with pytest.raises(WeightsMissingError) as caught:
        client.load("keras/MobileNetV2")
    assert f"{root}/keras/MobileNetV2.imagenet.weights.h5 (or .h5, .keras)" in str(caught.value)
    assert CACHED_AS in str(caught.value)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(keras_2_file if place.endswith(CACHED_AS) else weights_file, root / place)
    try:
        (listed,) = client.models("keras", "MobileNetV2")
        assert [weights.state for weights in listed.pretrained] == ["present"]
        resident = client.load("keras/MobileNetV2")
        uploaded = client.load(f"keras/MobileNetV2@sha256:{client.upload_weights(weights_file)}")
    finally:
        (root / place).unlink()
    assert resident.resident_bytes == 4 * 3_538_984
    assert resident.model_sha256 == uploaded.model_sha256
    client.unload("keras/MobileNetV2")


# ---------------------------------------------------------------- refusals


def test_unknown_names_are_refused_with_near_matches(client: Client, photos: list[Path]) -> None:
    with pytest.raises(UnknownModelError, match=r"'MobileNetV4'\. Did you mean 'MobileNetV2'"):
        client.modules("keras/MobileNetV4")
    with pytest.raises(UnknownWeightsError, match=r"'imagenet21k'\. Did you mean 'imagenet'"):
        client.load("keras/MobileNetV2@imagenet21k")
    with pytest.raises(UnknownModuleError, match=r"'block_3_add'\. Did you mean 'block_9_add'"):
        client.extract(KEPT, photos[:1], "block_3_add")
    with pytest.raises(UnknownModuleError, match=r"runs once: the step must be @t=0, got"):
        client.extract(KEPT, photos[:1], "block_4_add@t=1")


def test_another_size_than_the_models_own_is_refused(client: Client) -> None:
    tensors = [("a", np.zeros((96, 96, 3), np.float32))]
    with pytest.raises(InvalidRequestError, match=r"must be 224 x 224 x 3 .*got 96 x 96 x 3"):
        client.extract(KEPT, tensors, "Conv1")


def test_weights_of_another_model_are_refused(client: Client, weights_file: Path) -> None:
    sha256 = client.upload_weights(weights_file)
    with pytest.raises(WeightsMismatchError) as caught:
        client.load(f"keras/MobileNet@sha256:{sha256}")
    assert str(caught.value).startswith(f"{weights_file.name} does not fit keras/MobileNet: ")
    assert "could not be loaded" in str(caught.value)
    assert "<DepthwiseConv" in str(caught.value)
    assert "value=" not in str(caught.value)


def test_an_interpreter_without_keras_has_no_models(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    weights = WeightsFolder(tmp_path, allow_download=False)
    source = open_source(SourceContext(weights, TensorFlowRuntime(str(bare))))
    assert source.names() == []
    with pytest.raises(ServerUnknownModelError, match=rf"Keras isn't installed for .*{bare}"):
        source.resolve(ModelKey("keras", "VGG16", Random(0)))


# ---------------------------------------------------------------- TensorFlow's process


def children() -> list[psutil.Process]:
    """Return TensorFlow's processes of the servers of this module."""
    return [child for child in _all_children() if child not in _of_others]


def _all_children() -> list[psutil.Process]:
    # Each was forked from a process that has imported TensorFlow, and which computes nothing.
    found = psutil.Process().children()
    templates = [
        one
        for one in found
        if "thingsvision_server.backends.tensorflow.child.serve" in one.cmdline()
    ]
    return [child for template in templates for child in template.children()]


_of_others: list[psutil.Process] = []
"""Processes of other tests' servers, started before."""


def test_a_crash_fails_the_request_in_it_and_no_other(client: Client, photos: list[Path]) -> None:
    before = client.extract(KEPT, photos[:2], "Conv1", batch_size=2).features["Conv1"]
    for resident in client.residency().models:  # uploaded weights are in processes of their own
        if str(resident.model) != KEPT:
            client.unload(resident.model)
    deadline = time.monotonic() + 30
    while len(children()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    (child,) = children()
    many = [(str(number), photos[0].read_bytes()) for number in range(40)]
    rows = client.stream(KEPT, many, "Conv1", batch_size=1)  # too large to wait in a buffer
    next(rows)
    child.kill()
    with pytest.raises(BackendCrashedError, match="the next request restarts it"):
        list(rows)
    after = client.extract(KEPT, photos[:2], "Conv1", batch_size=2).features["Conv1"]
    np.testing.assert_array_equal(after, before)
    assert children() != [child]


def test_the_process_ends_with_the_last_model(client: Client) -> None:
    assert len(children()) == 1
    client.pin(KEPT, False)
    for resident in client.residency().models:
        client.unload(resident.model)
    assert children() == []
