"""Networks of ecoset and of salient object subitizing: their published files load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from support.serving import TestServer, open_sources, serving
from thingsvision_client import Client
from thingsvision_client.errors import ThingsvisionError
from thingsvision_server.backends.torch.model import TorchModel, state_sha256
from thingsvision_server.errors import WeightsMismatchError
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, WeightsState

BUILDERS = {
    "Alexnet_ecoset": "alexnet",
    "VGG16_ecoset": "vgg16",
    "VGG16bn_ecoset": "vgg16_bn",
    "Resnet50_ecoset": "resnet50",
    "Inception_ecoset": "inception_v3",
    "AlexNet_SalObjSub": "alexnet",
}


def build(name: str) -> nn.Module:
    """Return the network as its file was saved from: Inception with the head of its training."""
    options: dict[str, Any] = {"init_weights": False} if name.startswith("Inception") else {}
    network: nn.Module = models.get_model(BUILDERS[name], weights=None, num_classes=565, **options)
    return network.eval()


def cache(name: str, folder: Path, state: dict[str, Any]) -> Path:
    """Write a file where torch hub keeps it when THINGSvision asks for it."""
    hub = folder / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True, exist_ok=True)
    torch.save(state, hub / name)
    return hub / name


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch"))
    return open_sources(tmp_path)


def load(sources: Sources, name: str) -> TorchModel:
    source = sources["custom"]
    model = source.load(source.resolve(ModelKey("custom", name, Pretrained())), "cpu")
    assert isinstance(model, TorchModel)
    return model


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["Alexnet_ecoset", "Resnet50_ecoset", "AlexNet_SalObjSub"])
def test_published_files_load(sources: Sources, tmp_path: Path, name: str, prefix: str) -> None:
    torch.manual_seed(3)
    network = build(name)
    state = {f"{prefix}{key}": tensor for key, tensor in network.state_dict().items()}
    cache(name, tmp_path, state)
    (entry,) = sources["custom"].entries([name])
    assert [one.state for one in entry.pretrained] == [WeightsState.PRESENT]
    assert load(sources, name).model_sha256 == state_sha256(network)


@pytest.mark.parametrize("with_auxiliary_head", [True, False])
def test_inception_needs_no_auxiliary_head(
    sources: Sources, tmp_path: Path, with_auxiliary_head: bool
) -> None:
    torch.manual_seed(3)
    network = build("Inception_ecoset")
    state = network.state_dict()
    assert any(key.startswith("AuxLogits.") for key in state)
    kept = {k: v for k, v in state.items() if with_auxiliary_head or "AuxLogits" not in k}
    cache("Inception_ecoset", tmp_path, kept)
    model: Any = load(sources, "Inception_ecoset")
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        np.testing.assert_array_equal(model.network(image), network(image))


def test_both_vggs_have_a_file_of_their_own(sources: Sources, tmp_path: Path) -> None:
    """THINGSvision keeps both as VGG16bn_ecoset: whichever came second found the other's."""
    with torch.device("meta"):
        plain = {key: torch.zeros(0) for key in build("VGG16_ecoset").state_dict()}
    path = cache("VGG16bn_ecoset", tmp_path, plain)
    states = {
        entry.name: entry.pretrained[0].state
        for entry in sources["custom"].entries(["VGG16_ecoset", "VGG16bn_ecoset"])
    }
    expected = {"VGG16_ecoset": WeightsState.MISSING, "VGG16bn_ecoset": WeightsState.PRESENT}
    assert states == expected
    with pytest.raises(WeightsMismatchError) as caught:
        load(sources, "VGG16bn_ecoset")
    assert str(caught.value).startswith(f"{path} does not fit custom/VGG16bn_ecoset")
    assert '"features.1.running_mean"' in str(caught.value)


@pytest.mark.parametrize("name", BUILDERS)
def test_classes_parameters_and_preprocessing(sources: Sources, name: str) -> None:
    source = sources["custom"]
    structure = source.structure(ModelKey("custom", name, Random(0)))
    whole = next(module for module in structure.modules if not module.name)
    assert whole.last.shape == (565,)
    (entry,) = source.entries([name])
    assert entry.parameter_count == whole.parameter_count > 1_000_000
    (pretrained,) = entry.pretrained
    assert pretrained.tag == ("published" if "SalObjSub" in name else "ecoset")
    preprocessing = pretrained.preprocessing
    assert preprocessing is not None
    assert (preprocessing.resize_pixels, preprocessing.crop_pixels) == ((256,), (224, 224))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with serving(tmp_path_factory.mktemp("weights"), drain_seconds=1.0) as running:
        yield running


def test_ecoset_through_a_server(client: Client, photos: list[Path], tmp_path: Path) -> None:
    network = build("Alexnet_ecoset")
    sha256 = client.upload_weights(cache("file", tmp_path, network.state_dict()))
    model = f"custom/Alexnet_ecoset@sha256:{sha256}"
    result = client.extract(model, photos[:2], "classifier.6", batch_size=2)
    assert result.features["classifier.6"].shape == (2, 565)
    with pytest.raises(ThingsvisionError, match=r"Alexnet_ecoset\.ecoset\.safetensors"):
        client.load("custom/Alexnet_ecoset")
    with pytest.raises(ThingsvisionError, match="Did you mean 'Alexnet_ecoset'"):
        client.load("custom/Alexnet_ecosett")
