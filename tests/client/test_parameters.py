import json
from typing import Any

import numpy as np
import pytest
import torch

from thingsvision_client import Model, get_extractor
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.library.parameters import qualified_model_name, weights_of
from thingsvision_client.library.spellings import complete_parameters
from thingsvision_client.origins import chosen_options
from thingsvision_client.values.options import ExtractOptions
from thingsvision_client.values.reductions import Reduction


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("RN50", "clip/RN50"),
        ("ViT-B/32", "clip/ViT-B-32"),
        ("ViT-L/14@336px", "clip/ViT-L-14-336"),
        ("ViT-B-32-quickgelu", "clip/ViT-B-32-quickgelu"),
    ],
)
def test_a_variant_is_part_of_the_name(variant: str, name: str) -> None:
    assert qualified_model_name("clip", {"variant": variant}) == name
    assert qualified_model_name("clip", {}) == "clip"


@pytest.mark.parametrize(
    ("parameters", "pretrained", "weights"),
    [
        ({}, True, None),
        ({}, False, "random:0"),
        ({"seed": 5}, False, "random:5"),
        ({"weights": "V2"}, True, "V2"),
        ({"dataset": "laion2b"}, True, "laion2b"),
        ({"dataset": "laion2b", "seed": 3}, False, "random:3"),
        ({"variant": "a", "token_extraction": "cls_token"}, False, "random:0"),
    ],
)
def test_weights(parameters: Any, pretrained: bool, weights: str | None) -> None:
    assert weights_of(parameters, pretrained=pretrained, own_file=False) == weights


@pytest.mark.parametrize(
    ("parameters", "pretrained", "own_file", "sentence"),
    [
        (
            {"sed": 1},
            False,
            False,
            r"must have keys of seed, weights, variant, dataset, part, token.*, got \['sed'\]",
        ),
        ({"num_classes": 10}, False, False, r"num_classes=10.*get_extractor_from_model\(network"),
        ({"seed": 1}, True, False, r"\['seed'\] needs pretrained=False"),
        ({"weights": "x"}, False, False, r"\['weights'\] needs pretrained=True"),
        ({"dataset": "x", "weights": "y"}, True, False, "must name the weights once"),
        ({"weights": "y"}, True, True, r"model_path has the weights: leave \['weights'\] out"),
    ],
)
def test_contradictions_are_refused(
    parameters: Any, pretrained: bool, own_file: bool, sentence: str
) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        weights_of(parameters, pretrained=pretrained, own_file=own_file)


@pytest.mark.parametrize(
    ("family", "given", "pretrained", "name", "weights"),
    [
        ("clip", {}, True, "clip/ViT-B-32", None),
        ("OpenCLIP", {}, True, "OpenCLIP/ViT-B-32-quickgelu", "laion400m_e32"),
        ("OpenCLIP", {"variant": "ViT-B-32"}, True, "OpenCLIP/ViT-B-32", "laion400m_e32"),
        ("OpenCLIP", {"weights": "openai"}, True, "OpenCLIP/ViT-B-32-quickgelu", "openai"),
        ("OpenCLIP", {"variant": "RN50", "seed": 2}, False, "OpenCLIP/RN50", "random:2"),
        ("OpenCLIP/RN50", {}, True, "OpenCLIP/RN50", None),
        ("DreamSim", {}, True, "DreamSim/open_clip_vitb32", None),
        ("alexnet", {"vision_cfg": None}, True, "alexnet", None),
    ],
)
def test_a_family_has_the_variant_and_weights_of_the_library(
    family: str, given: Any, pretrained: bool, name: str, weights: str | None
) -> None:
    parameters = complete_parameters(family, given, needs_weights=pretrained)
    assert qualified_model_name(family, parameters) == name
    assert weights_of(parameters, pretrained=pretrained, own_file=False) == weights


def test_another_network_of_openclip_is_refused_with_the_way_to_send_it() -> None:
    said = r"vision_cfg.*'output_tokens': True.*get_extractor_from_model\(network.visual.*ln_post"
    with pytest.raises(InvalidRequestError, match=said):
        weights_of({"vision_cfg": {"output_tokens": True}}, pretrained=True, own_file=False)
    assert weights_of({"vision_cfg": {}}, pretrained=True, own_file=False) is None


def test_a_file_of_weights_goes_with_a_variant() -> None:
    given = {"variant": "a", "token_extraction": "avg_pool"}
    assert weights_of(given, pretrained=True, own_file=True) is None


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"weights": 1}, r"\['weights'\]` must be a tag of pretrained weights, got 1"),
        (
            {"token_extraction": ["a"]},
            r"`token_extraction` must be one of cls_token, .* got \['a'\]",
        ),
        ({"precision": ["float16"]}, r"`precision` must be one of float32, .* got \['float16'\]"),
        ({"dtype": 16}, "`dtype` must be one of float32, float16, got 16"),
        ({"reduction": {"pool": ["mean"]}}, r"`pool` must be a text or None, got \['mean'\]"),
        ({"reduction": {"units": [0, 1.5]}}, "`units` must be whole, got 1.5"),
        ({"reduction": {"units": 5}}, r"`units` must be a list, got 5"),
        ({"reduction": {"units": "12"}}, "`units` must be a list, got '12'"),
        ({"reduction": {"units": [True, False]}}, "`units` must be whole numbers, got a mask"),
        ({"reduction": {"pool_axes": [[1, 2]]}}, r"`pool_axes` must be whole, got \[1, 2\]"),
        (
            {"reduction": {"components": 2.5}},
            "`components` must be a whole number or None, got 2.5",
        ),
        ({"reduction": {"seed": None}}, "`seed` must be a whole number, got None"),
    ],
)
def test_values_of_another_type_are_refused_with_the_valid_ones(
    parameters: Any, sentence: str
) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):  # before any server is asked
        get_extractor(
            "alexnet", True, None, "torchvision",
            model_parameters=parameters, server="127.0.0.1:1",
        )  # fmt: skip


def test_a_model_is_named_by_strings() -> None:
    with pytest.raises(InvalidRequestError, match="`weights` must be a text, got 1"):
        Model("torchvision", "alexnet", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "units", [[1, 5, 9], range(1, 10, 4), np.array([1, 5, 9]), np.array([1.0, 5, 9]),
              torch.tensor([1, 5, 9])]
)  # fmt: skip
def test_a_reduction_has_plain_numbers_however_they_were_given(units: Any) -> None:
    reduction = Reduction(units=units, components=np.int64(3))
    assert reduction == Reduction(units=(1, 5, 9), components=3)
    assert hash(reduction)
    assert list(reduction.to_message().units) == [1, 5, 9]
    chosen = chosen_options(ExtractOptions(reduction=reduction))
    assert json.loads(json.dumps(chosen)) == {
        "reduction": {"units": [1, 5, 9], "components": 3, "seed": 0}
    }
