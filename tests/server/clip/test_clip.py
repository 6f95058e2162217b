"""CLIP and OpenCLIP: features of images and of texts equal those of open_clip itself."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image as Pillow
from torch import nn

from support.clip_networks import SEED, direct_network
from support.closeness import assert_close
from support.serving import serving
from thingsvision_client import Client
from thingsvision_client.errors import ImageError, InvalidRequestError, NotExtractableError
from thingsvision_client.errors import UnknownModelError as ClientUnknownModelError
from thingsvision_server.backends.torch.structure import first_tensor
from thingsvision_server.inputs import IMAGE, Preprocessing
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Pretrained, Random
from thingsvision_server.sources.preprocessing.transforms import read_steps

BLOCK = "transformer.resblocks.3"
VARIANTS = {
    "custom/clip/ViT-B-32": ("ViT-B-32-quickgelu", ["", BLOCK, f"{BLOCK}.attn", "ln_post"]),
    "custom/OpenCLIP/RN50": ("RN50", ["", "layer4", "layer2.1.act1", "attnpool"]),
}
TEXT_MODULES = ["", BLOCK, f"{BLOCK}.attn", f"{BLOCK}.mlp.c_fc", "ln_final"]

pytestmark = pytest.mark.usefixtures("no_caches_of_the_user")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that takes 20 images in one forward pass."""
    limits = {"max_batch": 20, "max_batch_bytes": 512 * 1024**2}
    with serving(tmp_path_factory.mktemp("weights"), drain_seconds=1.0, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def pictures(photos: list[Path]) -> list[Pillow.Image]:
    """20 different pictures, small and not square."""
    opened = [Pillow.open(path).convert("RGB").resize((300, 260)) for path in photos]
    return [opened[i % len(opened)].crop((i, 0, 240 + i, 230)) for i in range(20)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [f"A photo of {count} grey cats, sleeping!" for count in range(20)]


def encoded(picture: Pillow.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def direct(network: nn.Module, method: str, modules: list[str], batch: Any) -> list[Any]:
    """Return what modules put out when open_clip's method is called."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda *call: outputs.update({name: first_tensor(call[2]).clone().numpy()})

    handles = [network.get_submodule(m).register_forward_hook(keep(m)) for m in modules if m]
    with torch.inference_mode():
        features = getattr(network, method)(batch).numpy()
    for handle in handles:
        handle.remove()
    return [features, *(outputs[module] for module in modules if module)]


# ---------------------------------------------------------------- features over the wire


@pytest.mark.parametrize("count", [1, 7, 20])
@pytest.mark.parametrize("model", VARIANTS)
def test_image_features_and_hidden_modules_are_open_clips(
    client: Client, pictures: list[Pillow.Image], model: str, count: int
) -> None:
    architecture, modules = VARIANTS[model]
    network = direct_network(architecture)
    transform = image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
    batch = torch.stack([transform(picture) for picture in pictures[:count]])
    inside = [f"visual.{module}" if module else "" for module in modules]
    expected = direct(network, "encode_image", inside, batch)
    names = [f"visual.{module}".strip(".") for module in modules]
    images = [(f"{i}", encoded(picture)) for i, picture in enumerate(pictures[:count])]
    result = client.extract(f"{model}@random:{SEED}", images, names, batch_size=count)
    for name, features in zip(names, expected, strict=True):
        assert result.features[name].shape == features.shape
        assert_close(result.features[name], features)
    assert np.ptp(expected[0], axis=0).max() > 0 or count == 1


@pytest.mark.parametrize("count", [1, 7, 20])
@pytest.mark.parametrize("model", VARIANTS)
def test_text_features_and_hidden_modules_are_open_clips(
    client: Client, texts: list[str], model: str, count: int
) -> None:
    architecture, _ = VARIANTS[model]
    network = direct_network(architecture)
    batch = open_clip.get_tokenizer(architecture)(texts[:count])
    expected = direct(network, "encode_text", TEXT_MODULES, batch)
    names = [f"text.{module}".strip(".") for module in TEXT_MODULES]
    result = client.extract_texts(f"{model}@random:{SEED}", texts[:count], names, batch_size=count)
    for name, features in zip(names, expected, strict=True):
        assert result.features[name].shape == features.shape
        assert_close(result.features[name], features)


def test_the_class_token_and_the_mean_of_patches_are_those_of_the_block(
    client: Client, pictures: list[Pillow.Image]
) -> None:
    model, module = f"custom/clip/ViT-B-32@random:{SEED}", f"visual.{BLOCK}"
    images = [("a", encoded(pictures[0])), ("b", encoded(pictures[1]))]
    tokens = client.extract(model, images, module, batch_size=2).features[module]
    assert tokens.shape == (2, 50, 768)
    expected = {
        "cls_token": tokens[:, 0],
        "avg_pool": tokens[:, 1:].mean(1),
        "cls_token+avg_pool": np.concatenate([tokens[:, 0], tokens[:, 1:].mean(1)], 1),
    }
    for kind, values in expected.items():
        found = client.extract(model, images, module, batch_size=2, token_extraction=kind)
        assert_close(found.features[module], values)


# ---------------------------------------------------------------- what is refused


def test_tokens_are_taken_of_images_alone(client: Client, pictures: list[Pillow.Image]) -> None:
    images = [("a", encoded(pictures[0]))]
    for model, module in (
        ("custom/clip/ViT-B-32", f"text.{BLOCK}"),
        ("custom/OpenCLIP/RN50", "visual.layer4"),
        ("custom/OpenCLIP/RN50", "visual.attnpool"),
        ("custom/OpenCLIP/RN50", f"text.{BLOCK}"),
    ):
        with pytest.raises(
            NotExtractableError, match="cls_token needs a module that outputs a token sequence"
        ):
            client.extract(f"{model}@random:0", images, module, token_extraction="cls_token")


def test_pooling_queries_are_not_patches(sources: Sources) -> None:
    """CoCa pools by 256 queries, as many as its image has patches."""
    key = ModelKey("custom", "OpenCLIP/coca_ViT-L-14", Random(0))
    modules = {one.name: one for one in sources["custom"].structure(key).modules}
    for name in ("visual.attn_pool", "visual.ln_post"):
        assert modules[name].last.shape == (256, 768)
        assert modules[name].prefix_tokens is None
    assert modules[f"visual.{BLOCK}"].prefix_tokens == 1


def test_images_and_texts_are_asked_for_one_by_one(
    client: Client, pictures: list[Pillow.Image]
) -> None:
    model, images = "custom/clip/ViT-B-32@random:0", [("a", encoded(pictures[0]))]
    with pytest.raises(InvalidRequestError) as both:
        client.extract(model, images, ["visual", "text"])
    assert "'visual' takes images, 'text' takes texts; request them separately" in str(both.value)
    with pytest.raises(ImageError, match=r"'a'. is an encoded image; .* take a text"):
        client.extract(model, images, "text")
    with pytest.raises(ImageError, match=r"'a cat'. is a text; .* take an encoded image"):
        client.extract_texts(model, ["a cat"], "visual")


def test_a_text_is_never_cut_off(client: Client) -> None:
    model = "custom/clip/ViT-B-32@random:0"
    longest = "cat " * 75
    assert client.extract_texts(model, [longest], "text").features["text"].shape == (1, 512)
    with pytest.raises(ImageError) as caught:
        client.extract_texts(model, ["a cat", longest + "dog"], "text")
    sentence = str(caught.value)
    assert sentence.startswith("at index 1, the text 'cat cat")
    assert "'cat cat cat cat cat cat cat cat cat cat ...' has 78 tokens" in sentence
    assert "reads at most 77" in sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x" * 16_000, "the text 'xxx"),
        ("a " * 5_001, "a text must have at most 10,000"),
        ("a " + "x" * 9_000, "has 9,000 characters; a word must have at most 1,000"),
    ],
    ids=["one word", "many words", "a long word"],
)
def test_a_text_that_takes_long_to_tokenize_is_refused_before_it_is(
    client: Client, text: str, words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        client.extract_texts("custom/clip/ViT-B-32@random:0", [text], "text")


def test_a_name_without_a_variant_is_refused_with_the_variants(client: Client) -> None:
    for name in ("clip", "OpenCLIP"):
        with pytest.raises(ClientUnknownModelError, match=f"'{name}/"):
            client.modules(f"custom/{name}@random:0")
    with pytest.raises(ClientUnknownModelError, match="'clip/ViT-B-32'"):
        client.modules("custom/clip/ViT-B/32@random:0")


# ---------------------------------------------------------------- what is listed


def test_all_variants_and_tags_are_listed_without_importing_open_clip(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from thingsvision_server.sources.custom.clip.source import open_source
from thingsvision_server.sources.context import SourceContext
from thingsvision_server.sources.weights.folder import WeightsFolder
weights = WeightsFolder(Path({str(tmp_path)!r}), allow_download=False)
source = open_source(SourceContext(weights, None))
for entry in source.entries(source.names()):
    print(entry.name, *(one.tag for one in entry.pretrained))
assert "open_clip" not in sys.modules
"""
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    found = {words[0]: words[1:] for words in map(str.split, listed.stdout.decode().splitlines())}
    variants = "RN50 RN101 RN50x4 RN50x16 RN50x64 ViT-B-32 ViT-B-16 ViT-L-14 ViT-L-14-336"
    expected = {f"clip/{variant}": ["openai"] for variant in variants.split()} | {
        f"OpenCLIP/{name}": open_clip.list_pretrained_tags_by_model(name)
        for name in open_clip.list_models()
    }
    assert found == expected


def as_float32(preprocessing: Preprocessing) -> Preprocessing:
    """Round as the transform does: ours has the decimals that open_clip's table has."""
    mean, std = (tuple(np.float32(part)) for part in (preprocessing.mean, preprocessing.std))
    return replace(preprocessing, mean=mean, std=std)


def test_preprocessing_is_open_clips_for_every_tag(
    sources: Sources, pictures: list[Pillow.Image]
) -> None:
    compared = set()
    for architecture, tag in open_clip.list_pretrained():
        key = ModelKey("custom", f"OpenCLIP/{architecture}", Pretrained(tag))
        own = sources["custom"].transforms(key)[IMAGE]
        size = open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
        config = merge_preprocess_dict(
            {"size": size}, open_clip.get_pretrained_cfg(architecture, tag)
        )
        transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
        described = read_steps(transform.transforms, own.preprocessing.description)
        assert as_float32(own.preprocessing) == as_float32(described), key
        if own.preprocessing not in compared:
            compared.add(own.preprocessing)
            assert torch.equal(own.apply(pictures[0]), transform(pictures[0])), key
    assert len(compared) > 10


@pytest.mark.parametrize(
    ("name", "weights", "activation"),
    [
        ("clip/ViT-B-32", Random(0), "QuickGELU"),
        ("clip/ViT-B-32", Pretrained("openai"), "QuickGELU"),
        ("OpenCLIP/ViT-B-32", Random(0), "GELU"),
        ("OpenCLIP/ViT-B-32", Pretrained("laion2b_s34b_b79k"), "GELU"),
        ("OpenCLIP/ViT-B-32", Pretrained("laion400m_e32"), "QuickGELU"),
        ("OpenCLIP/ViT-B-32-quickgelu", Random(0), "QuickGELU"),
    ],
)
def test_the_activation_is_the_one_of_training(
    sources: Sources, name: str, weights: Any, activation: str
) -> None:
    modules = sources["custom"].structure(ModelKey("custom", name, weights)).modules
    types = {module.type for module in modules if module.name.endswith("mlp.gelu")}
    assert types == {activation}
