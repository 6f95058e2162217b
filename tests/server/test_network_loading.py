"""Networks of files: built without initial values, with the bits of the ordinary way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from support.serving import open_sources
from thingsvision_server.backends.torch.copying import copy_in_thread
from thingsvision_server.backends.torch.model import TorchModel, state_sha256
from thingsvision_server.backends.torch.seeding import seed_thread
from thingsvision_server.backends.torch.shortcuts import use_shortcuts
from thingsvision_server.backends.torch.uninitialised import skip_initial_values
from thingsvision_server.errors import WeightsMismatchError
from thingsvision_server.inputs import IMAGE
from thingsvision_server.sources.base import ModelKey, Pretrained, Random, Uploaded
from thingsvision_server.sources.weights.loading import load_network
from thingsvision_server.sources.weights.state_dicts import StateDict, load_state, read_state_dict

pytestmark = pytest.mark.usefixtures("no_caches_of_the_user")

Build = Callable[[StateDict], nn.Module]


def seeded(build: Callable[[], nn.Module], seed: int = 3) -> nn.Module:
    with seed_thread(seed):
        return build()


class Ways:
    """Loads a state both ways: as a server does, and the ordinary way; counts what was built."""

    def __init__(self, build: Callable[[], nn.Module], state: StateDict) -> None:
        self.count = 0
        self._build = build
        self.found = load_network(self._filled, lambda: dict(state))
        with seed_thread(0):
            self.ordinary = load_state(build(), dict(state))

    def _filled(self, state: StateDict) -> nn.Module:
        self.count += 1
        return load_state(self._build(), state)

    def assert_same(self) -> None:
        found, expected = (
            dict([*network.named_parameters(), *network.named_buffers()])
            for network in (self.found, self.ordinary)
        )
        assert list(found) == list(expected)
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype
            assert found[name].stride() == tensor.stride()
            assert torch.equal(found[name], tensor), name
        assert state_sha256(self.found) == state_sha256(self.ordinary)


# ---------------------------------------------------------------- whole networks of the sources

NETWORKS = [
    ("torchvision", "squeezenet1_1"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "swin_t"),
    ("torchvision", "densenet121"),
    ("timm", "resnet10t"),
    ("timm", "vit_tiny_patch16_224"),
    ("timm", "tf_efficientnet_lite0"),
    ("custom", "cornet-z"),
    ("custom", "cornet-rt"),
    ("ssl", "dino-vit-small-p16"),
]


@pytest.mark.parametrize(("source", "name"), NETWORKS)
def test_features_are_those_of_the_ordinary_way(source: str, name: str, tmp_path: Path) -> None:
    """A network with weights of a file against the seeded one that the file was made of."""
    opened = open_sources(tmp_path)[source]
    seed = ModelKey(source, name, Random(3))
    expected = opened.load(seed, "cpu")
    assert isinstance(expected, TorchModel)
    (tmp_path / "uploads").mkdir()
    sha256 = "0" * 64
    torch.save(expected.network.state_dict(), tmp_path / "uploads" / sha256)
    found = opened.load(ModelKey(source, name, Uploaded(sha256)), "cpu")
    assert isinstance(found, TorchModel)
    assert found.model_sha256 == expected.model_sha256
    assert found.resident_bytes == expected.resident_bytes
    images = torch.randn(2, *opened.transforms(seed)[IMAGE].spec.shape)
    with torch.inference_mode():
        outputs = [model.towers[IMAGE](images) for model in (found, expected)]
    np.testing.assert_array_equal(*(output.numpy() for output in outputs))


BUILDERS: list[Callable[[], nn.Module]] = [
    models.resnet18,
    models.squeezenet1_1,
    models.shufflenet_v2_x0_5,
    lambda: nn.LSTM(3, 4),
    lambda: nn.TransformerEncoderLayer(8, 2, 16),
]


@pytest.mark.parametrize("build", BUILDERS)
def test_networks_are_built_once_and_without_initial_values(build: Callable[[], nn.Module]) -> None:
    ways = Ways(build, seeded(build).state_dict())
    assert ways.count == 1
    ways.assert_same()


@pytest.mark.parametrize("build", BUILDERS)
def test_without_the_shortcut_networks_are_initialised_and_have_the_same_bits(
    build: Callable[[], nn.Module],
) -> None:
    built: list[nn.Module] = []

    def build_and_note() -> nn.Module:
        built.append(build())
        assert not any(tensor.is_meta for tensor in built[-1].parameters())
        return built[-1]

    with use_shortcuts(fast_max_pool=True, skip_initialisation=False):
        ways = Ways(build_and_note, seeded(build).state_dict())
    assert ways.count == 1
    ways.assert_same()


# ---------------------------------------------------------------- what a file may hold


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def halved(state: StateDict) -> StateDict:
    return {k: t.half() if t.is_floating_point() else t for k, t in state.items()}


def without_counters(state: StateDict) -> StateDict:
    return {k: t for k, t in state.items() if not k.endswith("num_batches_tracked")}


def channels_last(state: StateDict) -> StateDict:
    last = torch.channels_last
    return {k: t.to(memory_format=last) if t.ndim == 4 else t for k, t in state.items()}


def slices(state: StateDict) -> StateDict:
    return {k: torch.stack([t, t])[1] for k, t in state.items()}


def one_memory(state: StateDict) -> StateDict:
    return state | {"1.bias": state["1.weight"], "1.running_var": state["1.weight"]}


def of_training(state: StateDict) -> StateDict:
    return {k: nn.Parameter(t) if t.is_floating_point() else t for k, t in state.items()}


CHANGES = [halved, without_counters, channels_last, slices, one_memory, of_training]


@pytest.mark.parametrize("change", CHANGES)
def test_tensors_of_a_file_are_as_if_they_were_copied(
    change: Callable[[StateDict], StateDict],
) -> None:
    state = change(seeded(small).state_dict())
    ways = Ways(small, state)
    assert ways.count == 1
    ways.assert_same()
    storages = [t.untyped_storage().data_ptr() for t in ways.found.state_dict().values()]
    assert len(set(storages)) == len(storages)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_that_is_written_anew_changes_no_model(suffix: str, tmp_path: Path) -> None:
    """In place, as `cp` and `torch.save` do: a model that lay in the file would change or die."""
    path = tmp_path / "torchvision" / f"squeezenet1_1.IMAGENET1K_V1.{suffix}"
    path.parent.mkdir()
    network = models.squeezenet1_1()
    write: Callable[..., None] = save_file if suffix == "safetensors" else torch.save
    write(network.state_dict(), path)
    key = ModelKey("torchvision", "squeezenet1_1", Pretrained("IMAGENET1K_V1"))
    model = open_sources(tmp_path)["torchvision"].load(key, "cpu")
    assert isinstance(model, TorchModel)
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    path.write_bytes(b"")
    assert state_sha256(model.network) == model.model_sha256 == state_sha256(network)


@pytest.mark.parametrize("suffix", ["pth", "old.pth", "safetensors"])
def test_mapped_files_hold_what_files_that_are_read_hold(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    state = seeded(small).state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=suffix == "pth")
    mapped, read = (read_state_dict(path, mapped=one) for one in (True, False))
    assert list(mapped) == list(read)
    assert all(torch.equal(mapped[name], tensor) for name, tensor in read.items())


ODD_TENSORS = [
    torch.tensor(3),
    torch.zeros(0, 4),
    torch.tensor([True, False]),
    torch.randn(3, 2).bfloat16(),
    torch.randn(4, 3).T,
    torch.tensor([float("nan"), -0.0]),
]


@pytest.mark.parametrize("tensor", ODD_TENSORS)
def test_copies_have_the_same_bits_in_memory_of_their_own(tensor: torch.Tensor) -> None:
    copy = copy_in_thread(tensor)
    assert (copy.shape, copy.dtype) == (tensor.shape, tensor.dtype)
    bits = [one.contiguous().reshape(-1).view(torch.uint8).tolist() for one in (copy, tensor)]
    assert bits[0] == bits[1]
    assert not tensor.numel() or copy.data_ptr() != tensor.data_ptr()


# ---------------------------------------------------------------- the ordinary way, where needed


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight


class WithBuffer(nn.Module):
    """With a buffer that no file has; `make` gives its value."""

    def __init__(self, make: Callable[[nn.Linear], torch.Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("made", make(self.layer), persistent=False)


class WithAttribute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.kept = {"first": [self.layer.weight.detach()]}


def drawn_in_place(_layer: nn.Linear) -> torch.Tensor:
    return torch.zeros(3).normal_()


def drawn_after_a_view(_layer: nn.Linear) -> torch.Tensor:
    parameter = nn.Parameter(torch.zeros(3))
    parameter.data.normal_()
    return parameter.detach().clone()


def value_of_a_weight(layer: nn.Linear) -> torch.Tensor:
    return torch.tensor(layer.weight.detach().sum().item())


def set_in_parts(_layer: nn.Linear) -> torch.Tensor:
    made = torch.empty(3)
    made[:2].fill_(2)
    made[2:].fill_(1)
    return made


NEED_VALUES: dict[str, Callable[[], nn.Module]] = {
    "shared parameters": Tied,
    "random buffer": lambda: WithBuffer(lambda _layer: torch.randn(3) * 2),
    "buffer of a weight": lambda: WithBuffer(lambda layer: layer.weight.detach().sum(0)),
    "drawn in place": lambda: WithBuffer(drawn_in_place),
    "drawn through another tensor": lambda: WithBuffer(drawn_after_a_view),
    "value of a weight": lambda: WithBuffer(value_of_a_weight),
    "a permutation": lambda: WithBuffer(lambda _layer: torch.randperm(5)),
    "set in parts": lambda: WithBuffer(set_in_parts),
}


@pytest.mark.parametrize("case", NEED_VALUES)
def test_a_network_that_needs_initial_values_is_loaded_normally(case: str) -> None:
    build = NEED_VALUES[case]
    ways = Ways(build, seeded(build).state_dict())
    assert ways.count == 2
    ways.assert_same()


def test_tensors_in_attributes_have_values() -> None:
    ways = Ways(WithAttribute, seeded(WithAttribute).state_dict())
    assert ways.count == 2
    (kept,) = ways.found.kept["first"]  # type: ignore[index]
    (expected,) = ways.ordinary.kept["first"]  # type: ignore[index]
    assert torch.equal(kept, expected)


REAL_NUMBERS: list[Callable[[nn.Linear], torch.Tensor]] = [
    lambda _layer: torch.arange(3.0).outer(torch.ones(2)) - torch.zeros(2),
    lambda _layer: torch.empty(3).fill_(2),
    lambda _layer: torch.empty(3, dtype=torch.long).copy_(torch.linspace(0, 9, 3)),
]


@pytest.mark.parametrize("make", REAL_NUMBERS)
def test_numbers_that_a_network_computes_with_are_real(
    make: Callable[[nn.Linear], torch.Tensor],
) -> None:
    def build() -> nn.Module:
        return WithBuffer(make)

    ways = Ways(build, seeded(build).state_dict())
    assert ways.count == 1
    ways.assert_same()


MISFITS: dict[str, Callable[[StateDict], Any]] = {
    "lacking": lambda state: state.pop("0.weight"),
    "too many": lambda state: state.update(extra=torch.ones(1)),
    "shape": lambda state: state.update({"3.bias": torch.ones(7)}),
}


@pytest.mark.parametrize("case", MISFITS)
def test_mismatched_keys_are_reported_in_the_same_words(case: str) -> None:
    state = seeded(small).state_dict()
    MISFITS[case](state)
    with pytest.raises(RuntimeError) as ordinary:
        small().load_state_dict(state)
    with pytest.raises(RuntimeError) as found:
        Ways(small, state)
    assert str(found.value) == str(ordinary.value)


def test_a_misfit_of_an_upload_names_the_keys(tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    sha256 = "0" * 64
    state = models.squeezenet1_1().state_dict()
    state["classifier.1.bias"] = torch.ones(2)
    torch.save(state, tmp_path / "uploads" / sha256)
    key = ModelKey("torchvision", "squeezenet1_1", Uploaded(sha256))
    with pytest.raises(WeightsMismatchError, match=r"classifier.1.bias \[2\] instead of \[1000\]"):
        open_sources(tmp_path)["torchvision"].load(key, "cpu")


def test_other_threads_build_and_load_as_ever() -> None:
    state = seeded(small).state_dict()

    def load() -> nn.Module:
        network = small()
        weight = network[0].weight
        network.load_state_dict(halved(state))
        assert network[0].weight is weight, "it was copied to, not replaced"
        return network

    with skip_initial_values(), ThreadPoolExecutor(1) as others:
        assert small()[0].weight.is_meta
        network = others.submit(load).result()
    assert not small()[0].weight.is_meta
    assert torch.equal(network.state_dict()["0.weight"], state["0.weight"].half().float())
