"""Every framework that is there, on the device: the values of PyTorch on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from support.closeness import assert_close
from support.own_networks import SIZE, network
from thingsvision_client import Client

pytestmark = pytest.mark.gpu

Case = tuple[str, str, Any, Any]
"""The service's name of a model, a module, inputs, and the values that are right."""


def pixels(*shape: int) -> Any:
    return np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)


def values(net: nn.Module, module: str, inputs: Any) -> Any:
    """What PyTorch computes on a CPU."""
    kept: list[torch.Tensor] = []
    net.get_submodule(module).register_forward_hook(lambda _m, _i, out: kept.append(out.clone()))
    with torch.inference_mode():
        net.eval()(torch.from_numpy(inputs))
    return kept[0].numpy()


def convolutional(_client: Client, _folder: Path) -> Case:
    torch.manual_seed(0)
    inputs = pixels(4, 3, 64, 64)
    expected = values(models.resnet18(), "layer2", inputs)
    return "torchvision/resnet18@random:0", "layer2", inputs, expected


def transformer(_client: Client, _folder: Path) -> Case:
    import timm

    torch.manual_seed(0)
    name, inputs = "vit_tiny_patch16_224", pixels(2, 3, 224, 224)
    expected = values(timm.create_model(name), "blocks.3", inputs)
    return f"timm/{name}@random:0", "blocks.3", inputs, expected


def onnx(client: Client, folder: Path) -> Case:
    from support.own_files import onnx_file

    net, inputs = network(6), pixels(4, 3, SIZE, SIZE)
    model = client.upload_model(onnx_file(net, folder / "net.onnx"))
    return str(model), "body", inputs, values(net, "body.0", inputs)


def keras(client: Client, folder: Path) -> Case:
    import h5py

    from support.tall_keras import HEIGHT, MODULE, WIDTH, write_tall_keras

    path, inputs = write_tall_keras(folder / "tall.keras"), pixels(4, HEIGHT, WIDTH, 3)
    model = client.upload_model(path)
    with h5py.File(_weights(path, folder)) as file:
        kernel, bias = (torch.from_numpy(file[f"layers/conv2d/vars/{n}"][()]) for n in ("0", "1"))
    conv = nn.functional.conv2d(
        torch.from_numpy(inputs).permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), bias, stride=2
    )
    return str(model), MODULE, inputs, conv.clamp(0, 6).permute(0, 2, 3, 1).numpy()


def _weights(path: Path, folder: Path) -> Path:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return Path(archive.extract("model.weights.h5", folder))


NEEDED: dict[Callable[[Client, Path], Case], tuple[str, ...]] = {
    convolutional: (),
    transformer: (),
    onnx: ("onnx", "onnxruntime"),
    keras: ("tensorflow", "h5py"),
}
"""What a case needs beside PyTorch."""

HERE = [case for case, needed in NEEDED.items() if all(map(find_spec, needed))]


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.__name__)
def test_a_framework_has_the_values_of_a_cpu(
    client: Client,
    case: Callable[[Client, Path], Case],
    tmp_path: Path,
    device: str,
    record_property: Callable[[str, object], None],
) -> None:
    model, module, inputs, expected = case(client, tmp_path)
    found = client.extract(model, inputs, module, batch_size=4)
    assert_close(found.features[module], expected)
    assert found.provenance.device == device
    record_property("framework", found.provenance.framework)
