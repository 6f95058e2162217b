"""The paragraph for a methods section, and what it cites: read in a source, for every model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timm.models._registry import _model_to_module

from support.checkout import CHECKOUT
from thingsvision_client import Client, Model, Provenance, load_features, save_features
from thingsvision_client.citations import Work, works_of_model, works_of_weights
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.values.preprocessing import Preprocessing
from thingsvision_client.values.provenance import UsedPCA

TABLE: dict[str, Any] = json.loads(
    (files("thingsvision_client.citations") / "citations.json").read_text("utf-8")
)
WORKS = [Work(key=key, **row) for key, row in TABLE["works"].items()]
CITED = ("torchvision", "keras", "ssl", "custom")
"""Sources whose models all have a work."""


@cache
def walked_models() -> dict[str, list[str]]:
    """Return every model of the zoo, by source."""
    found: dict[str, list[str]] = {}
    for line in (CHECKOUT / "docs" / "zoo.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if "source" in row:
            found.setdefault(row["source"], []).append(row["name"])
    return found


def provenance(model: str, **fields: Any) -> Provenance:
    plain = Provenance(
        model=Model.parse(model),
        model_sha256="ab" * 32,
        preprocessing=Preprocessing(resize_pixels=(256,), description="Resize(256), ToTensor()"),
        device="cpu",
        framework="torch 2.9.0",
        server_version="0.1.0",
    )
    return replace(plain, **fields)


@pytest.mark.parametrize("source", CITED)
def test_every_model_has_a_work(source: str) -> None:
    names = walked_models()[source]
    assert len(names) > 20
    missing = [name for name in names if not works_of_model(source, name)]
    assert not missing


def test_the_forty_largest_families_of_timm_have_works() -> None:
    names = walked_models()["timm"]
    families = Counter(_model_to_module.get(name, "") for name in names)
    largest = {family for family, _ in families.most_common(40)}
    for name in names:
        if _model_to_module.get(name) in largest:
            assert works_of_model("timm", name), name
    own = [name for name in names if [one.key for one in works_of_model("timm", name)] == ["timm"]]
    assert len(own) < len(names) / 20, own


@pytest.mark.parametrize(
    ("source", "name", "titles"),
    [
        ("torchvision", "resnet50", ["Deep Residual Learning for Image Recognition"]),
        ("torchvision", "vit_b_16", ["An Image is Worth 16x16 Words"]),
        ("keras", "VGG16", ["Very Deep Convolutional Networks"]),
        ("keras", "ResNet50V2", ["Identity Mappings in Deep Residual Networks"]),
        ("timm", "resnext50_32x4d", ["Deep Residual", "Aggregated Residual Transformations"]),
        ("timm", "seresnet50", ["Deep Residual", "Squeeze-and-Excitation"]),
        ("timm", "mixnet_s", ["MixConv"]),
        ("timm", "tf_efficientnetv2_s", ["EfficientNetV2"]),
        ("timm", "vit_small_patch14_dinov2", ["An Image is Worth", "DINOv2"]),
        ("timm", "convnextv2_tiny", ["A ConvNet for the 2020s", "ConvNeXt V2"]),
        ("ssl", "simclr-rn50", ["A Simple Framework for Contrastive", "Deep Residual"]),
        ("custom", "cornet-s", ["CORnet: Modeling the Neural Mechanisms"]),
        ("custom", "clip/ViT-B-32", ["Learning Transferable Visual Models"]),
        ("custom", "VGG16_ecoset", ["An ecologically motivated image dataset", "Very Deep"]),
    ],
)
def test_the_right_works_are_cited(source: str, name: str, titles: list[str]) -> None:
    found = [work.title for work in works_of_model(source, name)]
    assert len(found) == len(titles), found
    for title, expected in zip(found, titles, strict=True):
        assert title.startswith(expected)


def test_weights_have_works_of_their_own() -> None:
    assert [w.key for w in works_of_weights("torchvision", "IMAGENET1K_V2")] == ["imagenet"]
    titles = [work.title for work in works_of_weights("timm", "a1_in1k")]
    assert any("ResNet strikes back" in title for title in titles)
    assert not works_of_weights("torchvision", "unheard-of")


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        ("fb_in1k", ["imagenet"]),
        ("fb_in22k", ["imagenet-database"]),
        ("sw_in12k", ["imagenet-database"]),
        ("augreg_in21k", ["imagenet-database"]),
        ("augreg_in21k_ft_in1k", ["imagenet", "imagenet-database"]),
        ("openai_ft_in12k_in1k", ["imagenet", "imagenet-database"]),
        ("laion2b", []),
    ],
)
def test_the_data_of_weights_is_what_the_tag_says(tag: str, data: list[str]) -> None:
    found = [work.key for work in works_of_weights("timm", tag)]
    assert sorted(key for key in found if key.startswith("imagenet")) == data


def _read_in_packages() -> Iterator[Work]:
    return (work for work in WORKS if re.match(r"(torchvision|timm|keras)/", work.read))


@pytest.mark.parametrize("work", list(_read_in_packages()), ids=lambda work: work.key)
def test_a_work_is_named_where_it_was_read(work: Work) -> None:
    package, _, path = work.read.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    text = (Path(spec.submodule_search_locations[0]) / path).read_text("utf-8")
    assert work.url.partition("://")[2].rpartition("/")[2] in text
    words = re.findall(r"\w+", work.title.lower())
    shown = re.findall(r"\w+", text.lower())
    assert f" {' '.join(words)} " in f" {' '.join(shown)} ", work.title


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.key)
def test_every_work_has_an_address_and_an_entry(work: Work) -> None:
    assert work.url.startswith("https://")
    assert work.read
    entry = work.to_bibtex()
    assert entry.startswith(f"@{'article' if work.journal else 'misc'}{{{work.key},")
    assert entry.count("{") == entry.count("}")
    title = work.title.replace("&", r"\&")
    assert f"title = {{{{{title}}}}}" in entry
    assert not re.search(r"(?<!\\)[&%#$_]", title), "LaTeX stops there"
    assert f"url = {{{work.url}}}" in entry


def test_every_key_of_the_rules_is_a_work() -> None:
    rules = [*TABLE["models"].values(), *TABLE["weights"].values(), TABLE["timm"]]
    keys = {key for rows in rules for _, found in rows for key in found}
    keys |= {key for found in TABLE["libraries"].values() for key in found} | {"thingsvision"}
    assert keys == TABLE["works"].keys()


def test_the_paragraph_says_what_was_computed(client: Client, photos: list[Path]) -> None:
    found = client.extract("torchvision/squeezenet1_0@random:0", photos[:1], "features.3")
    text = found.provenance.methods_text()
    paragraph, _, entries = text.partition("\n\n")
    assert "squeezenet1_0 of torchvision ([@arxiv-1602.07360])" in paragraph
    assert "random weights (seed 0)" in paragraph
    for fact in ("model_sha256", "device", "framework", "server_version", "precision"):
        assert getattr(found.provenance, fact) in paragraph
    assert " ".join(found.provenance.preprocessing.description.split())[:40] in paragraph
    cited = set(re.findall(r"@([\w.-]+)", paragraph))
    assert cited == set(re.findall(r"^@\w+\{([^,]+),", entries, re.MULTILINE))
    assert found.provenance.methods_text(bibtex=False) == paragraph
    assert found.provenance.bibtex() == entries


def test_the_paragraph_says_what_was_chosen() -> None:
    pca = UsedPCA("cd" * 32, "stimuli", component_count=50, image_count=720, images_sha256="")
    reduction = {"pool": "POOL_MEAN", "pool_axes": [1, 2], "pca": "stimuli"}
    text = provenance(
        "torchvision/resnet50@IMAGENET1K_V2",
        reduction=reduction,
        pca=pca,
        deterministic=True,
        precision="bfloat16",
    ).methods_text()
    assert "the pretrained weights 'IMAGENET1K_V2' ([@imagenet])" in text
    assert "pooled by their mean over the axes 1, 2" in text
    assert "50 principal components, fitted on 720 images" in text
    assert "in bfloat16 on cpu with torch 2.9.0, each image alone" in text


def test_the_paragraph_says_what_was_measured(client: Client, photos: list[Path]) -> None:
    vit, clip = "timm/vit_tiny_patch16_224@random:0", "custom/OpenCLIP/ViT-S-32-alt@random:4"
    tokens = client.extract(vit, photos[:2], ["blocks.0", "blocks.1"], token_extraction="cls_token")
    text = tokens.methods_text(bibtex=False)
    assert text.startswith("Features of 2 images were extracted from the modules blocks.0 and ")
    assert text.endswith("Of each sequence of tokens, the class token was taken.")
    rdms = client.rdm("torchvision/squeezenet1_0@random:0", photos[:3], "", metric="euclidean")
    text = rdms.methods_text(bibtex=False)
    assert text.startswith("Features of 3 images were extracted with squeezenet1_0 of torchvision")
    assert text.endswith(
        "The dissimilarity of two images is the Euclidean distance of their features."
    )
    with pytest.raises(InvalidRequestError, match="they were uploaded: call methods_text of"):
        client.rdm_of(tokens.features["blocks.0"]).methods_text()
    alone = tokens.provenance.methods_text(modules="blocks.0", bibtex=False)
    assert alone.startswith("Features were extracted from the module blocks.0 of vit_tiny")
    wrong: dict[str, Any]
    for wrong in ({"modules": 3}, {"count": "3"}, {"inputs": "pictures"}):
        with pytest.raises(InvalidRequestError, match=f"`{next(iter(wrong))}` must be"):
            tokens.provenance.methods_text(**wrong)
    texts = client.extract_texts(clip, ["a cat", "a dog"])
    text = texts.methods_text()
    assert text.startswith("Features of 2 texts were extracted from the module text of OpenCLIP/")
    assert "Texts were preprocessed as follows: 77 token ids" in text


def test_files_of_texts_know_what_computed_them(client: Client, tmp_path: Path) -> None:
    texts = client.extract_texts("custom/OpenCLIP/ViT-S-32-alt@random:4", ["a cat", "a dog"])
    save_features(texts.features, tmp_path, "npz")
    loaded = load_features(tmp_path)
    assert loaded.methods_text() == texts.methods_text()
    assert loaded.names == ["a cat", "a dog"]
    save_features(np.eye(3), tmp_path / "own", "npy")
    with pytest.raises(InvalidRequestError, match=r"not known what computed the features in .*own"):
        load_features(tmp_path / "own").methods_text()


def test_what_no_source_names_is_said() -> None:
    text = provenance("transformers/google/vit@main").methods_text()
    assert text.count("no citation known") == 2
    own = provenance(f"own/{'ef' * 32}").methods_text()
    assert "a network of our own, with its own weights" in own
    uploaded = provenance(f"torchvision/vgg16@sha256:{'ef' * 32}:ema").methods_text()
    assert f"weights of our own (SHA-256 of the file: {'ef' * 32})" in uploaded
