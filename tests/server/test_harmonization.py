"""Networks of Harmonization load the files that their authors publish."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from support.checkout import SUPPORT
from support.closeness import DEEP, assert_close
from support.harmonized_weights import EVERY, images, reference, write_weights
from support.serving import open_sources
from thingsvision_server.backends.taps import taps
from thingsvision_server.errors import (
    InvalidWeightsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from thingsvision_server.sources.base import ModelKey, Pretrained, WeightsState
from thingsvision_server.sources.uploads.keras_tensors import read_weights

LAYERS = ["conv1_conv", "conv3_block2_out", "avg_pool", "predictions"]
FILE = "keras/models/resnet50v2_harmonized"
CACHE = Path("keras/models")
CACHED = {
    "EfficientNetB0": "efficientnetB0_harmonized",
    "LeViT_small": "levit_small_harmonized",
    "ViT_B16": "vit-b16_harmonized",
    "tiny_ConvNeXT": "tiny_convnext_harmonized",
    "tiny_MaxViT": "maxvit_tiny_harmonized",
}
KEY = ModelKey("custom", "Harmonization/ResNet50", Pretrained())


def test_a_published_file_gives_what_keras_2_gives(tmp_path: Path, photos: list[Path]) -> None:
    source = open_sources(tmp_path)["custom"]
    key = source.resolve(KEY)
    with pytest.raises(WeightsMissingError, match="models/resnet50v2_harmonized"):
        source.load(key, "cpu")
    (tmp_path / FILE).parent.mkdir(parents=True)
    arguments = {
        "layers": LAYERS,
        "paths": [str(path) for path in photos[:2]],
        "save_as": str(tmp_path / "whole.h5"),
    }
    (tmp_path / "tasks.json").write_text(json.dumps([("harmonized", arguments)]))
    command = [sys.executable, SUPPORT / "keras_reference.py", "tasks.json", "found.npz"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "whole.h5").rename(tmp_path / FILE)
    (entry,) = source.entries([key.name])
    assert [one.state for one in entry.pretrained] == [WeightsState.PRESENT]
    transform = source.transforms(key)["image"]
    inputs = [transform.apply(Pillow.open(path).convert("RGB")) for path in photos[:2]]
    model = source.load(key, "cpu")
    try:
        rows = model.run([np.stack(inputs)], taps(source.structure(key), LAYERS)).rows
    finally:
        model.close()
    expected = np.load(tmp_path / "found.npz")
    for layer, found in zip(LAYERS, rows, strict=True):
        wanted = expected[f"0:{layer}"]
        assert_close(found, wanted, DEEP)


def test_its_preprocessing_is_declared(tmp_path: Path) -> None:
    (entry,) = open_sources(tmp_path)["custom"].entries(["Harmonization/VGG16"])
    own = entry.pretrained[0].preprocessing
    assert own is not None
    assert (own.resize_pixels, own.mean) == ((224, 224), (0.485, 0.456, 0.406))
    assert entry.backend == "tf"


def _resolved(folder: Path, name: str, content: bytes | None = None) -> tuple[Any, ModelKey]:
    """Return the source and the key of a network whose cached file has this content."""
    source = open_sources(folder)["custom"]
    if content is not None:
        (folder / CACHE).mkdir(parents=True, exist_ok=True)
        (folder / CACHE / CACHED[name]).write_bytes(content)
    return source, source.resolve(ModelKey("custom", f"Harmonization/{name}", Pretrained()))


@pytest.mark.parametrize("name", CACHED)
def test_files_of_other_libraries_give_the_same_logits_as_the_libraries(
    tmp_path: Path, name: str
) -> None:
    source, key = _resolved(tmp_path, name)
    with pytest.raises(WeightsMissingError, match=f"/{CACHED[name]}"):
        source.load(key, "cpu")
    expected = reference(name)
    (tmp_path / CACHE).mkdir(parents=True)
    is_whole = name == "EfficientNetB0"  # published as a model, not as weights
    write_weights(tmp_path / CACHE / CACHED[name], expected["layers"], whole_model=is_whole)
    model = source.load(key, "cpu")
    try:
        inputs = images().transpose(0, 3, 1, 2)
        (logits,) = model.run([inputs], taps(source.structure(key), [""])).rows
    finally:
        model.close()
    wanted = np.array(expected["logits"])
    assert_close(logits[:, ::EVERY], wanted, DEEP)


def test_timms_own_weights_may_be_uploaded_too(tmp_path: Path) -> None:
    import timm

    network = timm.create_model("levit_128", distilled=False)
    buffer = BytesIO()
    torch.save(network.state_dict(), buffer)
    source, key = _resolved(tmp_path, "LeViT_small", buffer.getvalue())
    model = source.load(key, "cpu")
    loaded = model.network.state_dict()
    assert all(torch.equal(loaded[name], one) for name, one in network.state_dict().items())


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "other.h5"
    layers = [["stack9_block9_qkv", [["stack9_block9_qkv/kernel:0", [4, 8]]]]]
    write_weights(file, layers)
    source, key = _resolved(tmp_path, "LeViT_small", file.read_bytes())
    with pytest.raises(
        WeightsMismatchError, match=r'Unexpected key.*"stages\.8\.blocks\.8\.attn\.qkv\.linear'
    ):
        source.load(key, "cpu")


def test_files_that_are_not_weights_of_keras_2_are_refused(tmp_path: Path) -> None:
    import h5py

    file = tmp_path / "keras3.h5"
    with h5py.File(file, "w") as opened:
        opened["layers/dense/vars/0"] = np.zeros(3)
    source, key = _resolved(tmp_path, "LeViT_small", file.read_bytes())
    with pytest.raises(InvalidWeightsError, match="was not saved by Keras 2"):
        source.load(key, "cpu")
    with h5py.File(file, "a") as opened:
        opened.attrs["layer_names"] = [b"layers"]
        opened["layers"].attrs["weight_names"] = [b"elsewhere"]
    source, key = _resolved(tmp_path, "LeViT_small", file.read_bytes())
    with pytest.raises(InvalidWeightsError, match="lists a tensor that can't be read"):
        source.load(key, "cpu")


def test_long_lists_of_layers_are_read_in_the_order_of_their_pieces(tmp_path: Path) -> None:
    import h5py

    file = tmp_path / "long.h5"
    with h5py.File(file, "w") as opened:
        for piece in (10, 9, 0):
            opened.attrs[f"layer_names{piece}"] = [f"dense_{piece}".encode()]
            layer = opened.create_group(f"dense_{piece}")
            layer.attrs["weight_names"] = [f"dense_{piece}/kernel:0".encode()]
            layer[f"dense_{piece}/kernel:0"] = np.full((2, 1), piece, np.float32)
    state = read_weights(file)
    assert list(state) == ["dense_0/weight", "dense_9/weight", "dense_10/weight"]
    assert state["dense_10/weight"].tolist() == [[10.0, 10.0]]
