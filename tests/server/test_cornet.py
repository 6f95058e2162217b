"""CORnet: its published files load, and each step is what a straight loop gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from support.closeness import DEEP, assert_close
from support.serving import TestServer, open_sources, serving
from thingsvision_client import Client
from thingsvision_client.errors import ThingsvisionError
from thingsvision_server.backends.taps import taps
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.errors import WeightsMismatchError
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, WeightsState
from thingsvision_server.sources.custom.cornet.networks import (
    cornet_r,
    cornet_rt,
    cornet_s,
    cornet_z,
)

Weights = dict[str, Tensor]
Outputs = dict[str, list[Tensor]]

BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "cornet-z": cornet_z,
    "cornet-r": cornet_r,
    "cornet-rt": cornet_rt,
    "cornet-s": cornet_s,
}
FILES = {
    "cornet-z": "cornet_z-5c427c9c.pth",
    "cornet-r": "cornet_r-5930a990.pth",
    "cornet-rt": "cornet_rt-933c001c.pth",
    "cornet-s": "cornet_s-1d3f7974.pth",
}
FACTS = {
    "cornet-z": (2_071_656, 10),
    "cornet-r": (5_208_936, 30),
    "cornet-rt": (5_208_936, 30),
    "cornet-s": (53_416_616, 164),
}
AREAS = ("V1", "V2", "V4", "IT")
SHAPES = {"V1": (64, 56, 56), "V2": (128, 28, 28), "V4": (256, 14, 14), "IT": (512, 7, 7)}


def random_weights(name: str) -> Weights:
    """Return random tensors for a network, none of which is a special value such as 0 or 1."""
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in BUILDERS[name]().state_dict().items()}
    generator = torch.Generator().manual_seed(11)

    def drawn(key: str, shape: torch.Size) -> Tensor:
        values = torch.randn(shape, generator=generator)
        if key.endswith("running_var"):
            return values.abs() + 0.5
        fan = values[0].numel() if values.ndim > 1 else 4
        return values * (2 / fan) ** 0.5

    return {k: drawn(k, s) for k, s in shapes.items() if not k.endswith("num_batches_tracked")}


def publish(weights: Weights, folder: Path, name: str) -> Path:
    """Write a file as the authors did: saved from DataParallel, by a PyTorch without counters."""
    hub = folder / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True, exist_ok=True)
    state = {f"module.{key}": tensor for key, tensor in weights.items()}
    torch.save({"epoch": 20, "state_dict": state}, hub / FILES[name])
    return hub / FILES[name]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch"))
    return open_sources(tmp_path)


def loaded(sources: Sources, name: str, weights: Any = None) -> TorchModel:
    key = ModelKey("custom", name, weights or Pretrained("imagenet"))
    model = sources["custom"].load(sources["custom"].resolve(key), "cpu")
    assert isinstance(model, TorchModel)
    return model


def images(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return list(torch.randn(count, 3, 224, 224, generator=generator))


def extracted(sources: Sources, name: str, model: TorchModel, names: list[str]) -> list[Any]:
    structure = sources["custom"].structure(ModelKey("custom", name, Random(0)))
    return model.run([torch.stack(images())], taps(structure, names)).rows


# ---------------------------------------------------------------- straight references


def reference_z(w: Weights, image: Tensor) -> Outputs:
    outputs: Outputs = {}
    seen = image
    for area, stride, padding in (("V1", 2, 3), ("V2", 1, 1), ("V4", 1, 1), ("IT", 1, 1)):
        weight, bias = w[f"{area}.conv.weight"], w[f"{area}.conv.bias"]
        seen = torch.relu(functional.conv2d(seen, weight, bias, stride=stride, padding=padding))
        seen = functional.max_pool2d(seen, 3, stride=2, padding=1)
        outputs[area] = [seen]
    return outputs


def reference_r(w: Weights, image: Tensor, *, delayed: bool) -> Outputs:
    """Five steps of R (`delayed` False) and RT, each of the areas in turn."""

    def drive(area: str, below: Tensor) -> Tensor:
        stride, padding = (4, 3) if area == "V1" else (2, 1)
        weight, bias = w[f"{area}.conv_input.weight"], w[f"{area}.conv_input.bias"]
        seen = functional.conv2d(below, weight, bias, stride=stride, padding=padding)
        scale, shift = w[f"{area}.norm_input.weight"], w[f"{area}.norm_input.bias"]
        return torch.relu(functional.group_norm(seen, 32, scale, shift))

    def settle(area: str, total: Tensor) -> Tensor:
        seen = functional.conv2d(total, w[f"{area}.conv1.weight"], padding=1)
        scale, shift = w[f"{area}.norm1.weight"], w[f"{area}.norm1.bias"]
        return torch.relu(functional.group_norm(seen, 32, scale, shift))

    outputs: Outputs = {"V1": [settle("V1", drive("V1", image))]}
    for area in ("V2", "V4", "IT"):
        outputs[area] = [settle(area, torch.zeros(len(image), *SHAPES[area]))]
    for step in range(1, 5):
        previous = {area: outputs[area][step - 1] for area in AREAS}
        for area, under in zip(AREAS, (None, "V1", "V2", "V4"), strict=True):
            below = image if under is None else (previous[under] if delayed else outputs[under][-1])
            outputs[area].append(settle(area, drive(area, below) + previous[area]))
    return outputs


def reference_s(w: Weights, image: Tensor) -> Outputs:
    def norm(name: str, seen: Tensor) -> Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return functional.batch_norm(seen, mean, var, w[f"{name}.weight"], w[f"{name}.bias"])

    x = torch.relu(
        norm("V1.norm1", functional.conv2d(image, w["V1.conv1.weight"], stride=2, padding=3))
    )
    x = functional.max_pool2d(x, 3, stride=2, padding=1)
    x = torch.relu(norm("V1.norm2", functional.conv2d(x, w["V1.conv2.weight"], padding=1)))
    outputs: Outputs = {"V1": [x]}
    for area, times in (("V2", 2), ("V4", 4), ("IT", 2)):
        outputs[area] = []
        x = functional.conv2d(x, w[f"{area}.conv_input.weight"])
        for t in range(times):
            if t == 0:
                skip = norm(
                    f"{area}.norm_skip", functional.conv2d(x, w[f"{area}.skip.weight"], stride=2)
                )
            else:
                skip = x
            y = torch.relu(
                norm(f"{area}.norm1_{t}", functional.conv2d(x, w[f"{area}.conv1.weight"]))
            )
            y = functional.conv2d(y, w[f"{area}.conv2.weight"], stride=1 if t else 2, padding=1)
            y = torch.relu(norm(f"{area}.norm2_{t}", y))
            y = norm(f"{area}.norm3_{t}", functional.conv2d(y, w[f"{area}.conv3.weight"]))
            x = torch.relu(y + skip)
            outputs[area].append(x)
    return outputs


REFERENCES: dict[str, Callable[[Weights, Tensor], Outputs]] = {
    "cornet-z": reference_z,
    "cornet-r": lambda w, image: reference_r(w, image, delayed=False),
    "cornet-rt": lambda w, image: reference_r(w, image, delayed=True),
    "cornet-s": reference_s,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_every_step_is_what_a_straight_loop_gives(
    sources: Sources, tmp_path: Path, name: str
) -> None:
    weights = random_weights(name)
    publish(weights, tmp_path, name)
    with torch.inference_mode():
        expected = REFERENCES[name](weights, torch.stack(images()))
    asked = [f"{area}.output@t={t}" for area in AREAS for t in range(len(expected[area]))]
    asked += ["decoder.flatten", "decoder"]
    *rows, pooled, classes = extracted(sources, name, loaded(sources, name), asked)
    wanted = [output for area in AREAS for output in expected[area]]
    assert len(rows) == len(wanted) == {"z": 4, "r": 20, "rt": 20, "s": 9}[name.split("-")[1]]
    for module, found, output in zip(asked[:-2], rows, wanted, strict=True):
        assert output.std() > 0.01, f"{module} is too quiet to tell anything"
        assert_close(found, output.numpy(), DEEP, what=module)
    assert_close(pooled, rows[-1].mean(axis=(2, 3)))
    weight, bias = (weights[f"decoder.linear.{part}"].numpy() for part in ("weight", "bias"))
    assert_close(classes, pooled @ weight.T + bias)


# ---------------------------------------------------------------- facts and files


@pytest.mark.parametrize("name", BUILDERS)
def test_parameters_and_tensors_are_those_of_the_published_network(
    sources: Sources, name: str
) -> None:
    parameter_count, tensor_count = FACTS[name]
    network = BUILDERS[name]()
    assert sum(p.numel() for p in network.parameters()) == parameter_count
    assert len(network.state_dict()) == tensor_count
    (entry,) = sources["custom"].entries([name])
    assert entry.parameter_count == parameter_count
    assert entry.backend == "pt"
    (pretrained,) = entry.pretrained
    assert (pretrained.tag, pretrained.state) == ("imagenet", WeightsState.MISSING)
    preprocessing = pretrained.preprocessing
    assert preprocessing is not None
    assert (preprocessing.resize_pixels, preprocessing.crop_pixels) == ((256,), (224, 224))
    assert preprocessing.interpolation == "bilinear"


def test_the_published_file_of_s_has_135_tensors(sources: Sources, tmp_path: Path) -> None:
    """29 counters of batches make the 164 of today's PyTorch; they are filled with zeros."""
    weights = random_weights("cornet-s")
    assert len(weights) == 135
    publish(weights, tmp_path, "cornet-s")
    network = loaded(sources, "cornet-s").network
    assert network is not None
    state = network.state_dict()
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    assert len(counters) == 29
    assert not any(state[key] for key in counters)
    assert all(torch.equal(state[key], tensor) for key, tensor in weights.items())


def test_wrong_keys_are_listed(sources: Sources, tmp_path: Path) -> None:
    weights = random_weights("cornet-z")
    weights["V3.conv.weight"] = weights.pop("V2.conv.weight")
    path = publish(weights, tmp_path, "cornet-z")
    with pytest.raises(WeightsMismatchError) as caught:
        loaded(sources, "cornet-z")
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} does not fit custom/cornet-z@imagenet")
    assert '"V2.conv.weight"' in sentence
    assert '"V3.conv.weight"' in sentence


# ---------------------------------------------------------------- through a server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with serving(tmp_path_factory.mktemp("weights"), drain_seconds=1.0) as running:
        yield running


def test_the_first_step_is_the_same_for_all_images(client: Client, photos: list[Path]) -> None:
    asked = ["IT.output@t=0", "IT.output@t=1", "IT.output@all", "IT.output", "V1", "V2@t=1"]
    found = {}
    for name in ("cornet-r", "cornet-rt"):
        got = client.extract(f"custom/{name}@random:2", photos[:2], asked, batch_size=2).features
        first, second, steps, last, *found[name] = (got[module] for module in asked)
        assert steps.shape == (2, 5, 512, 7, 7)
        np.testing.assert_array_equal(first[0], first[1])
        np.testing.assert_array_equal(steps[:, 0], first)
        np.testing.assert_array_equal(steps[:, 1], second)
        np.testing.assert_array_equal(steps[:, -1], last)
        assert not np.array_equal(last[0], last[1])
    (v1, v2), (delayed_v1, delayed_v2) = found.values()
    np.testing.assert_array_equal(v1, delayed_v1)
    assert not np.allclose(v2, delayed_v2, atol=1e-3)


def test_published_files_can_be_uploaded(client: Client, tmp_path: Path) -> None:
    weights = random_weights("cornet-z")
    sha256 = client.upload_weights(publish(weights, tmp_path, "cornet-z"))
    own = cornet_z()
    own.load_state_dict(weights)
    resident = client.load(f"custom/cornet-z@sha256:{sha256}")
    assert resident.model_sha256 == TorchModel(own, "cpu").model_sha256
    with pytest.raises(ThingsvisionError, match=r"does not fit custom/cornet-r.*V1\.conv_input"):
        client.load(f"custom/cornet-r@sha256:{sha256}")


def test_modules_tell_how_often_they_run(client: Client, photos: list[Path]) -> None:
    modules = {module.name: module for module in client.modules("custom/cornet-rt")}
    counts = {name: modules[name].call_count for name in ("V1", "V2", "V2.conv_input", "decoder")}
    assert counts == {"V1": 5, "V2": 5, "V2.conv_input": 4, "decoder": 1}
    with pytest.raises(
        ThingsvisionError, match=r"runs 4 times: the step must be @t=0 to @t=3, got .*@t=4"
    ):
        client.extract("custom/cornet-rt@random:0", photos[:1], "V2.conv_input@t=4")
