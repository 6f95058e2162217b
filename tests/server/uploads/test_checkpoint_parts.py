"""Checkpoints as training code saves them: the part that fits a model is taken, or named."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models

from support.closeness import assert_close
from thingsvision_client import Client, get_extractor
from thingsvision_client.errors import (
    InvalidRequestError,
    InvalidWeightsError,
    WeightsMismatchError,
)

NAME, MODULE = "squeezenet1_1", "features.12"
State = dict[str, torch.Tensor]


def weights(seed: int) -> State:
    torch.manual_seed(seed)
    state: State = models.squeezenet1_1().state_dict()
    return state


OWN, OTHER = weights(7), weights(8)


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def optimiser() -> dict[str, Any]:
    return torch.optim.SGD([torch.ones(3)], 0.1, momentum=0.9).state_dict()


HEAD = {"projection.0.weight": torch.ones(3, 3), "criterion.weight": torch.ones(2)}

ONE_FITS: dict[str, tuple[Any, str]] = {
    "DataParallel": (prefixed("module.", OWN), "module."),
    "Lightning": (
        {"epoch": 3, "state_dict": prefixed("model.", OWN) | HEAD, "optimizers": [optimiser()]},
        "state_dict/model.",
    ),
    "backbone": ({"state_dict": prefixed("backbone.", OWN) | HEAD}, "state_dict/backbone."),
    "encoder": (prefixed("encoder.", OWN), "encoder."),
    "torch.compile": (prefixed("_orig_mod.", OWN), "_orig_mod."),
    "both": (prefixed("module._orig_mod.", OWN), "module._orig_mod."),
    "compiled inside": (
        {name.replace("features.3.", "features.3._orig_mod."): t for name, t in OWN.items()},
        "*_orig_mod.",
    ),
    "compiled inside DataParallel": (
        {f"module.{name.replace('.3.', '.3._orig_mod.')}": t for name, t in OWN.items()},
        "module.*_orig_mod.",
    ),
    "other prefix": (prefixed("student.net.", OWN) | HEAD, "student.net."),
    "model_state_dict": ({"model_state_dict": OWN, "optimizer_state_dict": optimiser()}, ""),
    "a key of one's own": ({"params": OWN, "step": 3}, ""),
    "with numbers": ({**OWN, "epoch": 3}, ""),
    "shared twice": ({"model": OWN, "state_dict": OWN}, "model"),
    "with another network": ({"model": OWN, "teacher": {"weight": torch.ones(3)}}, ""),
    "another network beside": (
        {"discriminator": {"weight": torch.ones(3)}, "generator": OWN}, "generator"
    ),
}  # fmt: skip
"""Checkpoints of the network's weights, and the part that the server takes."""


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(checkpoint: Any) -> Path:
        path = tmp_path / "my checkpoint.pth"
        torch.save(checkpoint, path)
        return path

    return save


def features(client: Client, model: str, photos: list[Path]) -> tuple[np.ndarray, Any]:
    found = client.extract(model, photos[:2], MODULE)
    return found.features[MODULE], found.provenance


@pytest.fixture(scope="module")
def expected(server: Any, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The features of both sets of weights, saved plainly."""
    folder, found = tmp_path_factory.mktemp("plain"), []
    with Client(server.address) as client:
        for number, state in enumerate([OWN, OTHER]):
            torch.save(state, folder / f"{number}.pth")
            sha256 = client.upload_weights(folder / f"{number}.pth")
            found.append(features(client, f"torchvision/{NAME}@sha256:{sha256}", photos)[0])
    assert not np.allclose(*found, rtol=0.1)
    return found


@pytest.mark.parametrize("case", ONE_FITS)
def test_the_only_part_that_fits_is_taken_and_said(
    client: Client, photos: list[Path], saved: Any, expected: Any, case: str
) -> None:
    checkpoint, part = ONE_FITS[case]
    model = f"torchvision/{NAME}@sha256:{client.upload_weights(saved(checkpoint))}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, provenance = features(client, model, photos)
    assert_close(found, expected[0])
    said = [str(one.message) for one in caught if "the part" in str(one.message)]
    assert (f"the part {part!r}" in said[0]) if part else (said == [])
    assert str(provenance.model) == (f"{model}:{part}" if part else model)
    again, _ = features(client, str(provenance.model), photos)
    assert_close(again, found)


def test_what_fits_twice_is_refused_until_the_user_chooses(
    server: Any, photos: list[Path], saved: Any, expected: Any
) -> None:
    path = saved({"model": OWN, "ema": prefixed("module.", OTHER), "epoch": 3})

    def extract(**parameters: str) -> Any:
        extractor = get_extractor(
            NAME, True, None, "torchvision", path, parameters, server=server.address
        )
        return extractor.client.extract(extractor.model, photos[:2], MODULE).features[MODULE]

    with pytest.raises(WeightsMismatchError) as refused:
        extract()
    for word in (
        "my checkpoint.pth",
        "'model', 'ema/module.'",
        "model_parameters={'part': 'model'}",
    ):
        assert word in str(refused.value), word
    assert_close(extract(part="model"), expected[0])
    assert_close(extract(part="ema/module."), expected[1])
    with pytest.raises(WeightsMismatchError, match=r"no part 'emma'.*'model', 'ema'"):
        extract(part="emma")
    with pytest.raises(WeightsMismatchError, match=r"does not fit .*module.features"):
        extract(part="ema")


@pytest.mark.parametrize("part", ["online", "nets/online", "nets/online."])
def test_the_last_dot_of_a_prefix_may_be_left_out(
    client: Client, photos: list[Path], saved: Any, expected: Any, part: str
) -> None:
    path = saved({"nets": prefixed("online.", OWN) | prefixed("target.", OTHER)})
    model = f"torchvision/{NAME}@sha256:{client.upload_weights(path)}:{part}"
    assert_close(features(client, model, photos)[0], expected[0])


def test_two_prefixes_that_fit_are_named(client: Client, photos: list[Path], saved: Any) -> None:
    path = saved(prefixed("online.", OWN) | prefixed("target.", OTHER))
    model = f"torchvision/{NAME}@sha256:{client.upload_weights(path)}"
    with pytest.raises(WeightsMismatchError, match=r"'online.', 'target.'"):
        features(client, model, photos)


def test_what_does_not_fit_says_what_the_checkpoint_has(
    client: Client, photos: list[Path], saved: Any
) -> None:
    lacking = {name: tensor for name, tensor in OWN.items() if name != "classifier.1.bias"}
    path = saved({"net": prefixed("wrapped.", lacking), "epoch": 3})
    model = f"torchvision/{NAME}@sha256:{client.upload_weights(path)}"
    with pytest.raises(WeightsMismatchError) as refused:
        features(client, model, photos)
    for word in ("my checkpoint.pth", "'net'", "'wrapped.'", "'part'", "missing keys"):
        assert word in str(refused.value), word


def test_a_last_layer_for_other_classes_is_told_by_its_shapes(
    client: Client, photos: list[Path], saved: Any
) -> None:
    head = {"classifier.1.weight": torch.ones(10, 512, 1, 1), "classifier.1.bias": torch.ones(10)}
    path = saved({"epoch": 3, "state_dict": prefixed("module.", OWN | head)})
    model = f"torchvision/{NAME}@sha256:{client.upload_weights(path)}"
    with pytest.raises(WeightsMismatchError) as refused:
        features(client, model, photos)
    for word in (
        "Closest is the part 'state_dict/module.': wrong shapes: classifier.1.weight "
        "[10, 512, 1, 1] instead of [1000, 512, 1, 1]",
        "get_extractor_from_model",
    ):
        assert word in str(refused.value), word


KEY = "classifier.1.weight"


@pytest.mark.parametrize(
    ("checkpoint", "part", "said", "unsaid"),
    [
        (OWN | HEAD, "", r"unexpected keys: projection.*get_extractor_from_model", "part"),
        (models.shufflenet_v2_x0_5(), "", "It has the prefixes 'conv1.'.*'stage4.'", "part"),
        (
            {"student": prefixed("module.net.", OWN), "teacher": prefixed("net.", OTHER)},
            "teacher",
            r"part 'teacher' of my checkpoint.pth does not fit.*The part 'teacher/net.' fits",
            "student/",
        ),
        (OWN | {KEY: OWN[KEY].to("meta")}, "", rf"{KEY} is on the meta device.*Save dense", "part"),
    ],
    ids=["more", "another network", "a part of a part", "meta"],
)  # fmt: skip
def test_advice_is_of_use(
    client: Client,
    photos: list[Path],
    saved: Any,
    checkpoint: Any,
    part: str,
    said: str,
    unsaid: str,
) -> None:
    state = checkpoint.state_dict() if isinstance(checkpoint, torch.nn.Module) else checkpoint
    sha256 = client.upload_weights(saved(state))
    model = f"torchvision/{NAME}@sha256:{sha256}" + (f":{part}" if part else "")
    with pytest.raises(WeightsMismatchError, match=said) as refused:
        features(client, model, photos)
    assert unsaid not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.nn.Linear(2, 2), ["torch.nn.modules.linear.Linear", "state_dict()"]),
        ({"state_dict": OWN, "args": argparse.Namespace(x=1)}, ["argparse.Namespace"]),
        ({"state_dict": OWN, "best": np.float64(0.5)}, ["numpy", "weights_only=False)['state"]),
    ],
    ids=["network", "arguments", "number of numpy"],
)
def test_pickled_objects_are_named_in_our_own_words(
    client: Client, saved: Any, content: Any, words: list[str]
) -> None:
    with pytest.raises(InvalidWeightsError) as refused:
        client.upload_weights(saved(content))
    for word in ["my checkpoint.pth", *words]:
        assert word in str(refused.value), word
    for word in ("Weights only load failed", "add_safe_globals", "WeightsUnpickler"):
        assert word not in str(refused.value)


def test_a_file_cut_short_is_told_in_our_own_words(client: Client, saved: Any) -> None:
    path = saved(OWN)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InvalidWeightsError, match=r"my checkpoint.pth is neither .* cut short"):
        client.upload_weights(path)


def test_a_part_needs_a_checkpoint(server: Any, client: Client) -> None:
    with pytest.raises(InvalidRequestError, match=r"\['part'\] names a part .*give model_path"):
        get_extractor(NAME, True, None, "torchvision", None, {"part": "x"}, server=server.address)
    with pytest.raises(InvalidRequestError, match="whole file of Keras"):
        client.load(f"keras/MobileNet@sha256:{client.uploads()[0].sha256}:x")
