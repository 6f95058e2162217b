"""Networks of Harmonization load the files that their authors publish."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from serving import open_sources
from thingsvision_server.backends.taps import taps
from thingsvision_server.errors import UnknownModelError, WeightsMissingError
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, WeightsState

TESTS = Path(__file__).resolve().parents[1]
LAYERS = ["conv1_conv", "conv3_block2_out", "avg_pool", "predictions"]
FILE = "keras/models/resnet50v2_harmonized"
KEY = ModelKey("custom", "Harmonization/ResNet50", Pretrained())


def test_a_published_file_gives_what_keras_2_gives(tmp_path: Path, photos: list[Path]) -> None:
    source = open_sources(tmp_path)["custom"]
    key = source.resolve(KEY)
    with pytest.raises(WeightsMissingError, match="cached files resnet50v2_harmonized"):
        source.load(key, "cpu")
    (tmp_path / FILE).parent.mkdir(parents=True)
    arguments = {
        "layers": LAYERS,
        "paths": [str(path) for path in photos[:2]],
        "save_as": str(tmp_path / "whole.h5"),
    }
    (tmp_path / "tasks.json").write_text(json.dumps([("harmonized", arguments)]))
    command = [sys.executable, TESTS / "keras_reference.py", "tasks.json", "found.npz"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "whole.h5").rename(tmp_path / FILE)
    (entry,) = source.entries([key.name])
    assert [one.state for one in entry.pretrained] == [WeightsState.PRESENT]
    transform = source.transforms(key)["image"]
    inputs = [transform.apply(Pillow.open(path).convert("RGB")) for path in photos[:2]]
    model = source.load(key, "cpu")
    try:
        rows = model.run(inputs, taps(source.structure(key), LAYERS)).rows
    finally:
        model.close()
    expected = np.load(tmp_path / "found.npz")
    for layer, found in zip(LAYERS, rows, strict=True):
        wanted = expected[f"0:{layer}"]
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_its_preprocessing_is_declared(tmp_path: Path) -> None:
    (entry,) = open_sources(tmp_path)["custom"].entries(["Harmonization/VGG16"])
    own = entry.pretrained[0].preprocessing
    assert own is not None
    assert (own.resize_pixels, own.mean) == ((224, 224), (0.485, 0.456, 0.406))
    assert entry.backend == "tf"


@pytest.mark.parametrize("name", ["ViT_B16", "tiny_ConvNeXT", "tiny_MaxViT", "LeViT_small"])
def test_networks_of_other_libraries_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"holds the layers of the package .*ResNet50"):
        open_sources(tmp_path)["custom"].resolve(
            ModelKey("custom", f"Harmonization/{name}", Random(0))
        )
