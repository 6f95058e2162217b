"""Models are listed in full, at once, as their libraries have them, with what this server has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchvision import models

from support.serving import open_sources
from thingsvision_client import Client
from thingsvision_client.errors import UnknownSourceError
from thingsvision_server.sources import SOURCES, Sources, facts
from thingsvision_server.sources.base import ModelEntry, ModelKey, Random, WeightsState
from thingsvision_server.sources.facts import LIBRARIES, SourceFacts, read_facts

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    opened = open_sources(tmp_path_factory.mktemp("weights"))
    yield opened
    opened._context.tensorflow.close()


pytestmark = pytest.mark.usefixtures("no_caches_of_the_user")


def known(source: str) -> SourceFacts:
    found = read_facts(source)
    if found is None:
        pytest.skip(f"facts.json was made with other versions for {source}; scripts/zoo renews it")
    return found


# ---------------------------------------------------------------- how soon


LIST = """
import sys
from pathlib import Path
from support.serving import open_sources
from thingsvision_server.sources.facts import LIBRARIES

before = set(sys.modules)
sources = open_sources(Path(sys.argv[1]))
print(sum(1 for source in LIBRARIES for _ in sources.entries(source)))
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_a_list_of_the_zoo_waits_for_no_library(tmp_path: Path) -> None:
    for source in LIBRARIES:
        known(source)
    done = subprocess.run(
        [sys.executable, "-c", LIST, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    count, imported = done.stdout.splitlines()
    assert int(count) > 1500
    heavy = {"timm", "keras", "tf_keras", "tensorflow", "open_clip", "transformers"}
    assert not heavy & set(imported.split())


def test_a_server_lists_what_all_its_sources_have(client: Client) -> None:
    assert {one.source for one in client.models()} >= set(LIBRARIES)


# ---------------------------------------------------------------- as the libraries have them


@pytest.mark.parametrize("source", LIBRARIES)
def test_the_file_has_all_names_of_the_library_and_no_others(sources: Sources, source: str) -> None:
    assert known(source).names() == sources[source].names()


@pytest.mark.parametrize(("source", "step"), [("custom", 7), ("timm", 40), ("torchvision", 5)])
def test_the_file_says_what_the_library_says(sources: Sources, source: str, step: int) -> None:
    names = sources[source].names()[::step]
    assert len(names) > 15
    listed = list(known(source).entries(names, sources._context.weights))
    # Of a network with a part that is described on a hub alone, the number is not known.
    unknown = [entry.name for entry in listed if not entry.parameter_count]
    assert len(unknown) * 10 < len(listed), unknown
    for entry, own in zip(listed, sources[source].entries(names), strict=True):
        count = own.parameter_count or entry.parameter_count
        shape = own.input_shape or entry.input_shape
        assert entry == replace(own, parameter_count=count, input_shape=shape)
        assert entry.input_shape


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("custom", ("cornet-rt", "clip/RN50")),
        ("ssl", ("dino-vit-small-p16",)),
        ("timm", ("resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")),
        ("torchvision", ("alexnet", "regnet_y_400mf", "lraspp_mobilenet_v3_large")),
    ],
)
def test_parameters_and_input_are_those_of_the_network(
    sources: Sources, source: str, names: tuple[str, ...]
) -> None:
    for entry in sources.entries(source):
        if entry.name not in names:
            continue
        structure = sources[source].structure(ModelKey(source, entry.name, Random(0)))
        (root,) = (module for module in structure.modules if not module.name)
        assert entry.parameter_count == root.parameter_count, entry.name


def test_a_file_made_with_another_version_is_not_believed(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content: dict[str, Any] = json.loads(facts.FILE.read_text())
    content["sources"]["torchvision"]["libraries"]["torchvision"] = "0.0.1"
    content["sources"]["torchvision"]["models"]["resnet18"]["task"] = "telling fortunes"
    old = tmp_path / "facts.json"
    old.write_text(json.dumps(content))
    monkeypatch.setattr(facts, "FILE", old)
    facts._read_file.cache_clear()
    try:
        assert read_facts("torchvision") is None
        (entry,) = sources.entries("torchvision", "resnet18")
        assert (entry.task, entry.input_shape) == ("classification", (3, 224, 224))
    finally:
        facts._read_file.cache_clear()


def test_keras_of_another_environment_is_asked_itself() -> None:
    known("keras")
    assert read_facts("keras", "/opt/tensorflow/bin/python") is None


# ---------------------------------------------------------------- what is asked for


def test_names_are_matched_on_the_server(client: Client) -> None:
    found = client.models(name_glob="resnet1?")
    assert {(one.source, one.name) for one in found} >= {
        ("timm", "resnet18"),
        ("torchvision", "resnet18"),
    }
    assert all(one.name.startswith("resnet1") and len(one.name) == 8 for one in found)
    assert [one.name for one in client.models("torchvision", "*vgg16")] == ["ssd300_vgg16", "vgg16"]
    assert not client.models("timm", "no-such-*")


def test_models_come_by_source_and_name(client: Client) -> None:
    found = [(one.source, one.name) for one in client.models()]
    assert found == sorted(found)
    assert {source for source, _ in found} <= set(SOURCES)


def test_an_unknown_source_is_refused_with_the_choices(client: Client) -> None:
    with pytest.raises(UnknownSourceError, match=r"no source 'tim'\. Did you mean 'timm'"):
        client.models("tim")


def test_an_entry_says_what_a_model_is(client: Client) -> None:
    (alexnet,) = client.models("torchvision", "alexnet")
    assert (alexnet.backend, alexnet.task) == ("pt", "classification")
    assert alexnet.parameter_count == 61_100_840
    assert list(alexnet.input_shape) == [3, 224, 224]
    (weights,) = alexnet.pretrained
    assert (weights.tag, weights.is_default) == ("IMAGENET1K_V1", True)
    assert list(weights.preprocessing.resize_pixels) == [256]


# ---------------------------------------------------------------- which weights are here


def entry_of(sources: Sources, source: str, name: str) -> ModelEntry:
    (entry,) = sources.entries(source, name)
    return entry


def states(entry: ModelEntry) -> dict[str, WeightsState]:
    return {one.tag: one.state for one in entry.pretrained}


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_weights_are_here_fetchable_or_missing(tmp_path: Path) -> None:
    fetching = open_sources(tmp_path, allow_download=True)
    refusing = open_sources(tmp_path)
    url: str = models.get_model_weights("vgg11")["IMAGENET1K_V1"].url
    touch(tmp_path / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2])
    touch(tmp_path / "timm" / "resnet18.a2_in1k.safetensors")
    assert states(entry_of(fetching, "torchvision", "vgg11")) == {
        "IMAGENET1K_V1": WeightsState.PRESENT
    }
    assert states(entry_of(refusing, "torchvision", "vgg13")) == {
        "IMAGENET1K_V1": WeightsState.MISSING
    }
    resnet = states(entry_of(fetching, "timm", "resnet18"))
    assert resnet.pop("a2_in1k") is WeightsState.PRESENT
    assert set(resnet.values()) == {WeightsState.DOWNLOADABLE}


def test_a_cached_repository_of_the_hub_is_seen(tmp_path: Path) -> None:
    repository = tmp_path / "huggingface" / "hub" / "models--timm--resnet18.a1_in1k"
    touch(repository / "snapshots" / "c0ffee" / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    found = states(entry_of(open_sources(tmp_path), "timm", "resnet18"))
    assert found.pop("a1_in1k") is WeightsState.PRESENT
    assert set(found.values()) == {WeightsState.MISSING}


def test_a_list_sees_the_weights_that_a_load_finds(tmp_path: Path) -> None:
    """A snapshot of the folders gives the same as a search for each file."""
    sources = open_sources(tmp_path)
    for name in ("timm/resnet18.a1_in1k.pth", "timm/resnet34.a1_in1k.bin", "timm/x.safetensors"):
        touch(tmp_path / name)
    (tmp_path / "timm" / "resnet50.a1_in1k.safetensors").mkdir()
    weights, timm = sources._context.weights, known("timm")
    names = ["resnet18", "resnet34", "resnet50"]
    for entry in timm.entries(names, weights):
        assert entry == timm[entry.name].entry_with(weights)


def test_a_file_that_comes_is_listed_at_once(tmp_path: Path) -> None:
    sources = open_sources(tmp_path)
    tag = "IMAGENET1K_V1"
    assert states(entry_of(sources, "torchvision", "alexnet")) == {tag: WeightsState.MISSING}
    touch(tmp_path / "torchvision" / f"alexnet.{tag}.pt")
    assert states(entry_of(sources, "torchvision", "alexnet")) == {tag: WeightsState.PRESENT}
