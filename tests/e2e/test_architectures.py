"""Through the network, every module of many architectures gives what a plain hook gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from support.serving import all_cores, serving
from thingsvision_client import Client, Model

SEED = 7
MODULES_A_REQUEST = 40

FAMILIES = [
    "vgg11",
    "resnet18",
    "densenet121",
    "inception_v3",
    "googlenet",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "swin_t",
    "vit_b_16",
    "regnet_y_400mf",
]


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server whose passes may hold the activations of many modules."""
    with (
        serving(tmp_path_factory.mktemp("weights"), max_batch_bytes=2**30) as server,
        Client(server.address) as client,
    ):
        yield client


@pytest.fixture
def images(photos: list[Path]) -> list[Path]:
    return photos[:2]


def plain_hooks(name: str, batch: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the last output of every module as it was when the module returned."""
    torch.manual_seed(SEED)
    network = models.get_model(name, weights=None).eval()
    outputs: dict[str, np.ndarray] = {}

    def keep(place: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            outputs[place] = tensor.detach().clone().numpy()

        return hook

    for place, module in network.named_modules():
        module.register_forward_hook(keep(place))
    with torch.no_grad(), all_cores():
        network(batch)
    return outputs


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.filterwarnings("ignore:.*init_weights")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_extractable_module_equals_a_plain_hook(
    roomy: Client, images: list[Path], name: str
) -> None:
    transform = models.get_model_weights(name).DEFAULT.transforms()
    pictures = [transform(Image.open(path).convert("RGB")) for path in images]
    expected = plain_hooks(name, torch.stack(pictures))

    model = Model("torchvision", name, f"random:{SEED}")
    modules = [m.name for m in roomy.modules(model) if m.extractable and m.name]
    assert len(modules) > 20
    for start in range(0, len(modules), MODULES_A_REQUEST):
        asked = modules[start : start + MODULES_A_REQUEST]
        found = roomy.extract(model, images, asked, batch_size=len(images))
        assert found.batch_size == len(images)
        for module in asked:
            np.testing.assert_array_equal(found.features[module], expected[module], err_msg=module)
    ran = {module for module in expected if module}
    skipped = {m.name: m.reason for m in roomy.modules(model) if m.name in ran - set(modules)}
    assert all(skipped.values()), "a module that runs is left out without a reason"
    roomy.unload(model)
