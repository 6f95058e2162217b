"""What ListModules says of a network is what the network does."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image as Pillow
from torch import nn
from torchvision import models

from support.serving import open_sources
from thingsvision_client import Client
from thingsvision_client.errors import NotExtractableError
from thingsvision_server.backends.modules import Structure
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.backends.torch.structure import Tower, describe, first_tensor
from thingsvision_server.errors import NotExtractableError as ServerNotExtractableError
from thingsvision_server.inputs import IMAGE, InputSpec
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Random

NETWORKS = [
    ("torchvision", "resnet18"),
    ("torchvision", "squeezenet1_1"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "swin_t"),
    ("torchvision", "vit_b_16"),
    ("timm", "resnet18"),
    ("timm", "vit_tiny_patch16_224"),
    ("timm", "swin_tiny_patch4_window7_224"),
]


def build(source: str, name: str) -> nn.Module:
    torch.manual_seed(0)
    if source == "timm":
        made: nn.Module = timm.create_model(name)
        return made.eval()
    network: nn.Module = models.get_model(name, weights=None)
    return network.eval()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return open_sources(tmp_path_factory.mktemp("weights"))


def hooked(network: nn.Module, count: int) -> tuple[list[str], dict[str, list[Any]]]:
    """Return modules in the order in which they begin, and the outputs of each call."""
    begun: list[str] = []
    outputs: dict[str, list[Any]] = {}

    def begin(name: str) -> Any:
        return lambda *_: begun.append(name) if name not in begun else None

    def end(name: str) -> Any:
        return lambda _module, _inputs, output: outputs.setdefault(name, []).append(output)

    for name, module in network.named_modules():
        module.register_forward_pre_hook(begin(name))
        module.register_forward_hook(end(name))
    with torch.inference_mode():
        network(torch.zeros(count, 3, 224, 224))
    return begun, outputs


@pytest.mark.parametrize(("source", "name"), NETWORKS)
@pytest.mark.parametrize("count", [1, 3])
def test_the_structure_is_what_hooks_see(
    sources: Sources, source: str, name: str, count: int
) -> None:
    listed = sources[source].structure(ModelKey(source, name, Random(0))).modules
    network = build(source, name)
    begun, outputs = hooked(network, count)
    run = [module.name for module in listed if module.calls]
    assert run == begun
    in_place = sorted(listed, key=lambda module: module.position)
    assert [module.name for module in in_place] == [name for name, _ in network.named_modules()]
    for module in listed:
        own = network.get_submodule(module.name)
        assert module.type == type(own).__name__
        assert module.classes[0] == f"{type(own).__module__}.{type(own).__qualname__}"
        assert all(name.startswith("torch.nn.modules.") for name in module.classes[1:])
        assert module.attributes == " ".join(own.extra_repr().split())
        assert module.parameter_count == sum(p.numel() for p in own.parameters())
        assert module.parent == module.name.rpartition(".")[0]
        assert module.depth == (len(module.name.split(".")) if module.name else 0)
        assert len(module.calls) == len(outputs.get(module.name, []))
        if not module.reason:
            last = first_tensor(outputs[module.name][-1])
            assert tuple(last.shape) == (count, *module.last.shape), module.name
            assert str(last.dtype) == f"torch.{module.last.dtype}"


@pytest.mark.parametrize(("source", "name"), NETWORKS)
def test_shapes_need_no_values(source: str, name: str) -> None:
    on_cpu = described(source, name)
    with torch.device("meta"):
        on_meta = described(source, name)
    assert on_meta == on_cpu


def described(source: str, name: str) -> Structure:
    network = build(source, name)
    return describe(network, {IMAGE: Tower(network, InputSpec((3, 224, 224)))})


def test_windows_are_not_images(sources: Sources, client: Client) -> None:
    model = "timm/swin_tiny_patch4_window7_224@random:0"
    listed = {module.name: module for module in client.modules(model)}
    window = listed["layers.0.blocks.0.attn"]
    assert not window.extractable
    assert "no row per image" in window.reason
    with pytest.raises(NotExtractableError, match="no row per image"):
        client.extract(model, [("grey", grey())], window.name)
    assert listed["layers.0.blocks.0"].extractable


@dataclass
class Named:
    """What a module may give in place of a tensor."""

    tokens: torch.Tensor
    pooled: torch.Tensor


class Gives(nn.Module):
    """A module whose output has a tensor and its mean in it."""

    def __init__(self, arrange: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self._arrange = arrange

    def forward(self, images: torch.Tensor) -> Any:
        found = self.body(images)
        return self._arrange(found, found.mean((2, 3)))


@pytest.mark.parametrize(
    ("arrange", "kind"),
    [
        (lambda tokens, pooled: {"tokens": tokens, "pooled": pooled}, "dict"),
        (Named, "Named"),
        (lambda tokens, pooled: (Named(tokens, pooled), pooled), "Named"),
    ],
)
def test_what_gives_named_values_names_them(arrange: Any, kind: str) -> None:
    network = Gives(arrange)
    structure = describe(network, {IMAGE: Tower(network, InputSpec((3, 8, 8)))})
    sentence = rf"its output is a {kind} of tokens, pooled; request a module inside it"
    with pytest.raises(ServerNotExtractableError, match=sentence):
        taps(structure, [""])
    assert taps(structure, ["body"])[0].call_shape == (4, 6, 6)


def test_of_several_values_the_first_counts() -> None:
    network = Gives(lambda tokens, pooled: ((pooled, tokens), tokens))
    structure = describe(network, {IMAGE: Tower(network, InputSpec((3, 8, 8)))})
    (tap,) = taps(structure, [""])
    assert tap.call_shape == (4,)
    batch = torch.randn(2, 3, 8, 8)
    (rows,) = TorchModel(network, "cpu").run([batch], [tap]).rows
    np.testing.assert_array_equal(rows, network(batch)[0][0].numpy())


def grey() -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (64, 64), "grey").save(file, "PNG")
    return file.getvalue()


# ---------------------------------------------------------------- which activations


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from support.serving import serving

    with serving(tmp_path_factory.mktemp("weights"), drain_seconds=1.0) as running:
        yield running


def direct(name: str, photos: list[Path], modules: list[str]) -> dict[str, list[Any]]:
    """Return clones of the modules' outputs at every call, from torchvision itself."""
    network = build("torchvision", name)
    transform = models.get_model_weights(name).DEFAULT.transforms()
    pictures = [Pillow.open(path).convert("RGB") for path in photos]
    calls: dict[str, list[Any]] = {module: [] for module in modules}
    for module in modules:
        network.get_submodule(module).register_forward_hook(
            lambda _module, _inputs, output, kept=calls[module]: kept.append(output.clone().numpy())
        )
    with torch.inference_mode():
        network(torch.stack([transform(picture) for picture in pictures]))
    return calls


def test_the_last_call_of_a_module_counts(client: Client, photos: list[Path]) -> None:
    calls = direct("resnet18", photos[:2], ["layer1.0.relu", "layer1.0.conv1"])
    assert [len(outputs) for outputs in calls.values()] == [2, 1]
    result = client.extract("torchvision/resnet18@random:0", photos[:2], list(calls), batch_size=2)
    for module, outputs in calls.items():
        np.testing.assert_array_equal(result.features[module], outputs[-1])
    first, last = calls["layer1.0.relu"]
    assert not np.array_equal(first, last)


@pytest.mark.parametrize(
    ("name", "module"),
    [("alexnet", "features.0"), ("resnet18", "bn1"), ("squeezenet1_1", "features.3.squeeze")],
)
def test_activations_are_those_before_an_in_place_operation(
    client: Client, photos: list[Path], name: str, module: str
) -> None:
    expected = direct(name, photos[:2], [module])[module][-1]
    result = client.extract(f"torchvision/{name}@random:0", photos[:2], module, batch_size=2)
    np.testing.assert_array_equal(result.features[module], expected)
    assert result.features[module].min() < 0
