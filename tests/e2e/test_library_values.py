"""Both façades against THINGSvision 2.7.3 itself, in an environment of its own: `--all`.

Networks without pretrained weights, whose weights are uploaded: the library preprocesses images for
them alike, whatever the presets of torchvision.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from support.closeness import assert_close
from support.installing import install, make_environment, run
from support.serving import TestServer
from thingsvision_client import get_extractor, load_batches, vision
from thingsvision_client.model_class import Model as PaperModel

PYTHON = "3.11"  # the library pins a TensorFlow that has wheels up to it
LIBRARY = "thingsvision==2.7.3"
CLOSE = 1e-5

MODELS: Mapping[str, tuple[str, ...]] = {
    "alexnet": ("features.10", "classifier.5"),
    "convnext_tiny": ("features.3", "classifier.2"),
    "densenet121": ("features.denseblock2", "classifier"),
    "efficientnet_b0": ("features.3", "classifier.1"),
    "mobilenet_v3_small": ("features.6", "classifier.3"),
    "regnet_y_400mf": ("trunk_output.block2", "fc"),
    "resnet18": ("layer2", "avgpool"),
    "squeezenet1_0": ("features.7", "classifier.1"),
    "swin_t": ("features.1", "head"),
    "vit_b_32": ("encoder.layers.encoder_layer_5", "encoder.ln"),  # its head begins as zeros
}

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, photos: list[Path]
) -> Iterator[Path]:
    """A folder with the weights of each model, and the library's features."""
    if not request.config.getoption("--all"):
        pytest.skip("downloads gigabytes: give --all")
    if shutil.which(f"python{PYTHON}") is None:
        pytest.skip(f"needs Python {PYTHON}")
    folder = tmp_path_factory.mktemp("library")
    python = make_environment(folder / "env", f"python{PYTHON}")
    install(python, LIBRARY)
    script = Path(__file__).with_name("library_script.py")
    run(python, script, folder, json.dumps(MODELS), *photos[:2])
    shutil.rmtree(folder / "env")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", MODELS)
def test_todays_facade_gives_the_librarys_values(
    name: str, made: Path, server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    extractor = get_extractor(
        name, False, "cpu", "torchvision", model_path=made / f"{name}.pth", server=server.address
    )
    batches = load_batches(
        photos[0].parent,
        tmp_path,
        extractor.get_backend(),
        batch_size=2,
        file_names=[photo.name for photo in photos[:2]],
        transforms=extractor.get_transformations(),
    )
    features = extractor.extract_features(batches, module_names=list(MODELS[name]))
    compare(features, made / f"{name}.npz")


@pytest.mark.parametrize("name", MODELS)
def test_the_papers_facade_gives_the_librarys_values(
    name: str, made: Path, server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    model = PaperModel(name, False, "cpu", model_path=made / f"{name}.pth", server=server.address)
    loader = vision.load_dl(
        photos[0].parent,
        tmp_path,
        "pt",
        batch_size=2,
        file_names=[photo.name for photo in photos[:2]],
        transforms=model.get_transformations(),
    )
    features = {
        module: model.extract_features(loader, module, flatten_acts=False)[0]
        for module in MODELS[name]
    }
    compare(features, made / f"{name}.npz")


def compare(features: Mapping[str, np.ndarray], path: Path) -> None:
    """Fail unless features are within 1e-5 of the largest of the library's."""
    with np.load(path) as found:
        assert sorted(found) == sorted(features)
        for module, rows in found.items():
            assert rows.std() > 0
            assert_close(features[module], rows, CLOSE, what=module)
