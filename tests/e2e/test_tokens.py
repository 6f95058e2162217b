"""What is taken of sequences of tokens equals numpy on all tokens; all else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import (
    Client,
    DataLoader,
    ImageDataset,
    compute_rdm,
    errors,
    get_extractor,
)

VIT = "timm/vit_tiny_patch16_224@random:3"

# Model, a module, and its special tokens: class, and the one of distillation.
NETWORKS = [
    ("torchvision/vit_b_16@random:3", "encoder.layers.encoder_layer_2", 1),
    (VIT, "blocks.5", 1),
    ("timm/deit_tiny_distilled_patch16_224@random:3", "blocks.5", 2),
    ("timm/vit_tiny_patch16_224@random:3", "blocks.2.attn.qkv", 1),
]


@pytest.mark.parametrize(("model", "module", "special"), NETWORKS)
def test_tokens_are_told_apart_by_the_models_own_structure(
    client: Client, photos: list[Path], model: str, module: str, special: int
) -> None:
    def extracted(tokens: str | None) -> np.ndarray:
        result = client.extract(model, photos[:3], module, batch_size=3, token_extraction=tokens)
        assert result.token_extraction == tokens
        assert result.to_dict()["token_extraction"] == tokens
        return result.features[module]

    every = extracted(None)
    assert every.shape[1] == special + 14 * 14
    assert np.isfinite(every).all()
    class_token, mean = every[:, 0], every[:, special:].mean(1)
    assert not np.allclose(mean, every.mean(1), rtol=1e-5, atol=1e-7), "special tokens tell nothing"
    np.testing.assert_array_equal(extracted("cls_token"), class_token)
    assert_close(extracted("avg_pool"), mean)
    both = extracted("cls_token+avg_pool")
    np.testing.assert_array_equal(both[:, : class_token.shape[1]], class_token)
    assert_close(both[:, class_token.shape[1] :], mean)
    listed = {entry.name: entry.prefix_token_count for entry in client.modules(model)}
    assert listed[module] == special
    assert None in listed.values()


@pytest.mark.parametrize("tokens", ["cls_token", "avg_pool", "cls_token+avg_pool"])
@pytest.mark.parametrize(
    ("model", "module"),
    [
        ("torchvision/squeezenet1_1@random:0", "features.12"),
        ("torchvision/squeezenet1_1@random:0", "classifier.1"),
        (VIT, "head"),
        (VIT, "patch_embed.proj"),
    ],
)
def test_modules_whose_output_is_not_a_token_sequence_are_refused(
    client: Client, photos: list[Path], model: str, module: str, tokens: str
) -> None:
    with pytest.raises(
        errors.NotExtractableError, match=r"outputs a token sequence; this one outputs \["
    ) as caught:
        client.extract(model, photos[:1], module, token_extraction=tokens)
    assert module in str(caught.value)
    assert tokens in str(caught.value)


def test_a_sequence_without_a_class_token_has_only_a_mean(
    client: Client, photos: list[Path]
) -> None:
    with pytest.raises(errors.NotExtractableError, match=r"no class token; use avg_pool"):
        client.extract(VIT, photos[:1], "patch_embed", token_extraction="cls_token")
    every = client.extract(VIT, photos[:1], "patch_embed").features["patch_embed"]
    mean = client.extract(VIT, photos[:1], "patch_embed", token_extraction="avg_pool")
    assert_close(mean.features["patch_embed"], every.mean(1))


def test_unknown_kinds_are_named_with_the_valid_ones(server: TestServer, client: Client) -> None:
    valid = "cls_token, avg_pool, cls_token.avg_pool, got 'mean'"
    with pytest.raises(errors.InvalidRequestError, match=valid):
        client.extract(VIT, ["never-read.png"], "blocks.5", token_extraction="mean")
    with pytest.raises(ValueError, match=valid):
        get_extractor(
            "vit_tiny_patch16_224", False, None, "timm",
            model_parameters={"token_extraction": "mean"}, server=server.address,
        )  # fmt: skip


def test_rdms_compare_the_tokens_that_were_taken(
    server: TestServer, client: Client, photos: list[Path], tmp_path: Path
) -> None:
    taken = "cls_token+avg_pool"
    found = client.rdm(
        VIT, photos, "blocks.5", batch_size=2, dtype="float64", token_extraction=taken
    )
    extractor = get_extractor(
        "vit_tiny_patch16_224", False, None, "timm",
        model_parameters={"seed": 3, "token_extraction": taken}, server=server.address,
    )  # fmt: skip
    names = [photo.name for photo in photos]
    images = ImageDataset(photos[0].parent, tmp_path, "pt", file_names=names)
    features = extractor.extract_features(DataLoader(images, 2, "pt"), "blocks.5")
    assert features.shape == (len(photos), 2 * 192)
    np.testing.assert_allclose(found.rdms["blocks.5"], compute_rdm(features), atol=1e-10)


def test_streams_take_tokens_too(client: Client, photos: list[Path]) -> None:
    rows = client.stream(VIT, photos, ["blocks.5", "norm"], token_extraction="cls_token")
    for names, features in rows:
        assert {name: x.shape for name, x in features.items()} == {
            "blocks.5": (len(names), 192),
            "norm": (len(names), 192),
        }


def test_modules_show_their_tokens(server: TestServer, capsys: pytest.CaptureFixture[str]) -> None:
    model = "deit_tiny_distilled_patch16_224"
    get_extractor(model, False, None, "timm", server=server.address).show_model()
    lines = capsys.readouterr().out.splitlines()
    (block,) = [line for line in lines if line.strip().startswith("blocks.5: ")]
    assert block.endswith("-> 198 x 192, tokens: 2 special, 196 of patches")
