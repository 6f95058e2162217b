"""Preprocessing that is declared with an upload, and lists of what was uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support.closeness import assert_close
from support.own_files import DECLARED, copied, hooked, inputs, onnx_file
from support.own_networks import SEEDS, SIZE, network
from thingsvision_client import Client, Model, PreprocessingOverrides
from thingsvision_client.errors import (
    InvalidRequestError,
    ModelInUseError,
    UnknownModelError,
    UnknownWeightsError,
)


def test_a_model_without_a_declaration_takes_tensors_and_says_so(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    net = network(SEEDS["any"])
    model = client.upload_model(copied(programs, "undeclared"))
    with pytest.raises(InvalidRequestError, match=r"without its preprocessing.*only tensors"):
        client.extract(model, photos, "head")
    batch = inputs(photos)
    expected = hooked(net, batch, ["head"])["head"]
    found = client.extract(model, batch.numpy(), "head").features["head"]
    assert_close(found, expected)
    overrides = PreprocessingOverrides(40, SIZE, mean=DECLARED["mean"], std=DECLARED["std"])
    found = client.extract(model, photos, "head", preprocessing=overrides).features["head"]
    assert_close(found, expected)
    # Declared later, it takes images.
    assert client.upload_model(copied(programs, "undeclared"), DECLARED) == model
    found = client.extract(model, photos, "head").features["head"]
    assert_close(found, expected)


def test_another_declaration_of_a_file_is_refused_until_it_is_deleted(
    client: Client, programs: Path, photos: list[Path]
) -> None:
    path = copied(programs, "twice")
    model = client.upload_model(path, DECLARED)
    assert client.upload_model(path, DECLARED | {"interpolation": "bilinear"}) == model
    other = DECLARED | {"std": [1, 1, 1]}
    with pytest.raises(InvalidRequestError) as refusal:
        client.upload_model(path, other)
    for word in ("std [0.2, 0.25, 0.3], not [1.0, 1.0, 1.0]", "delete-upload", "override"):
        assert word in str(refusal.value)
    client.extract(model, photos, "head")
    with pytest.raises(ModelInUseError, match=f"own/{model.name}@sha256:.* from memory first"):
        client.delete_upload(model.name)
    client.unload(model)
    client.delete_upload(model.name)
    with pytest.raises(UnknownModelError, match=f"no model '{model.name}'"):
        client.extract(model, photos, "head")
    client.upload_model(path, other)
    assert client.extract(model, photos, "head").provenance.preprocessing.std == (1, 1, 1)


BAD_DECLARATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no size": (
        {"resize_pixels": [40]},
        "(Resize((80, 80))), got resize_pixels [40], which is the shorter side alone",
    ),
    "interpolation": (
        {"crop_pixels": [32], "interpolation": "best"},
        "`interpolation` must be one of nearest",
    ),
    "range": (
        {"crop_pixels": [32], "value_range": "0..2"},
        "one of 0..1, 0..255, -1..1, got '0..2'",
    ),
    "order": ({"crop_pixels": [32], "channel_order": "GBR"}, "one of RGB, BGR, got 'GBR'"),
    "mean": (
        {"crop_pixels": [32], "mean": [1]},
        "`mean` must have one number for each of 3 channels",
    ),
    "std": ({"crop_pixels": [32], "std": [1, 0, 1]}, "`std` must not contain 0"),
    "field": ({"crop_pixel": [32]}, "Valid fields: resize_pixels, interpolation"),
}


@pytest.mark.parametrize("case", BAD_DECLARATIONS)
def test_a_declaration_that_makes_no_sense_is_refused(
    client: Client, tmp_path: Path, case: str
) -> None:
    declared, words = BAD_DECLARATIONS[case]
    path = onnx_file(network(12), tmp_path / "net.onnx")
    with pytest.raises(InvalidRequestError) as refusal:
        client.upload_model(path, declared)
    assert words in str(refusal.value)


def test_a_declaration_that_does_not_fit_the_model_is_refused(
    client: Client, tmp_path: Path
) -> None:
    path = onnx_file(network(13), tmp_path / "net.onnx")
    model = client.upload_model(path, DECLARED | {"crop_pixels": [24]})
    with pytest.raises(InvalidRequestError, match="must be 3 x 32 x 32, got 3 x 24 x 24"):
        client.modules(model)


def test_a_new_model_is_listed_at_once_with_its_declaration(client: Client, programs: Path) -> None:
    client.models("own")
    model = client.upload_model(copied(programs, "listed"), DECLARED)
    listed = {one.name: one for one in client.models("own", f"{model.name[:8]}*")}[model.name]
    (weights,) = listed.pretrained
    assert Model("own", model.name, weights.tag).to_spec().weights_sha256 == model.name
    assert weights.preprocessing is not None
    assert weights.preprocessing.std == (0.2, 0.25, 0.3)
    assert listed.backend == "pt"


def test_models_are_named_by_the_digest_of_their_file(client: Client, tmp_path: Path) -> None:
    model = client.upload_model(onnx_file(network(15), tmp_path / "net.onnx"), DECLARED)
    with pytest.raises(UnknownModelError, match=r"by the SHA-256 of its file. Did you mean"):
        client.modules(f"own/{model.name[:-1]}")
    with pytest.raises(UnknownWeightsError, match="must be its own, got random:1"):
        client.modules(f"own/{model.name}@random:1")
    tensors = tmp_path / "weights.pt"
    torch.save(network(16).state_dict(), tensors)
    weights = client.upload_weights(tensors)
    with pytest.raises(
        UnknownModelError, match=f".torch. contains weights, not a complete model.*sha256:{weights}"
    ):
        client.modules(f"own/{weights}")
