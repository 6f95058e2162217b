from typing import Any

import pytest

from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.parameters import full_name, weights_of


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
    assert full_name("clip", {"variant": variant}) == name
    assert full_name("clip", {}) == "clip"


@pytest.mark.parametrize(
    ("parameters", "pretrained", "weights"),
    [
        ({}, True, None),
        ({}, False, "random:0"),
        ({"seed": 5}, False, "random:5"),
        ({"weights": "V2"}, True, "V2"),
        ({"dataset": "laion2b"}, True, "laion2b"),
        ({"variant": "a", "token_extraction": "cls_token"}, False, "random:0"),
    ],
)
def test_weights(parameters: Any, pretrained: bool, weights: str | None) -> None:
    assert weights_of(parameters, pretrained=pretrained, own_file=False) == weights


@pytest.mark.parametrize(
    ("parameters", "pretrained", "own_file", "sentence"),
    [
        ({"sed": 1}, False, False, r"no \['sed'\]; valid: seed, weights, variant, dataset, token"),
        ({"seed": 1}, True, False, r"\['seed'\] needs pretrained=False"),
        ({"dataset": "x"}, False, False, r"\['dataset'\] needs pretrained=True"),
        ({"dataset": "x", "weights": "y"}, True, False, "name the weights twice"),
        ({"weights": "y"}, True, True, r"model_path has the weights: leave \['weights'\] out"),
    ],
)
def test_contradictions_are_refused(
    parameters: Any, pretrained: bool, own_file: bool, sentence: str
) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        weights_of(parameters, pretrained=pretrained, own_file=own_file)


def test_a_file_of_weights_goes_with_a_variant() -> None:
    given = {"variant": "a", "token_extraction": "avg_pool"}
    assert weights_of(given, pretrained=True, own_file=True) is None
