"""What the commands let a user choose is what the library gives for the same choice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from support.serving import TestServer
from thingsvision_client import Client, PreprocessingOverrides, errors
from thingsvision_client.cli import app
from thingsvision_client.formats import FORMATS

VIT = ["--source", "timm", "--model-name", "vit_tiny_patch16_224", "--no-pretrained"]
RESNET = ["--source", "torchvision", "--model-name", "resnet18", "--no-pretrained"]
CLIP = ["--source", "custom", "--model-name", "OpenCLIP", "--no-pretrained"]
CLIP += ["--model-parameters", '{"variant": "ViT-S-32-alt"}']


def run(server: TestServer, *arguments: str | Path) -> Result:
    command = [*map(str, arguments), "--server", server.address]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


def refused(server: TestServer, *arguments: str | Path) -> str:
    result = run(server, *arguments)
    assert isinstance(result.exception, errors.ThingsvisionError), result.output
    return str(result.exception)


@pytest.fixture
def places(photos: list[Path], tmp_path: Path) -> list[str | Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos:
        (folder / photo.name).symlink_to(photo)
    return ["--image-root", folder, "--out-path", tmp_path / "out", "--batch-size", "2"]


def test_sizes_and_tokens_reach_the_server(
    server: TestServer, client: Client, places: list[str | Path], photos: list[Path]
) -> None:
    names = sorted(photos, key=lambda photo: photo.name)
    out = Path(places[3])
    done = run(
        server, "extract-features", *RESNET, *places, "--module-name", "layer4",
        "--resize", "120", "--crop", "64x96",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    changes = PreprocessingOverrides(resize=120, crop=(64, 96))
    model = "torchvision/resnet18@random:0"
    expected = client.extract(model, names, "layer4", batch_size=2, preprocessing=changes)
    np.testing.assert_array_equal(np.load(out / "features.npy"), expected.features["layer4"])

    modules = ["--module-name", "blocks.2", "--module-name", "patch_embed"]
    tokens = ["--token-extraction", "avg_pool"]
    done = run(server, "compute-rdm", *VIT, *places, *modules, *tokens)
    assert done.exit_code == 0, done.output
    rdms = client.rdm(
        "timm/vit_tiny_patch16_224@random:0", names, ["blocks.2", "patch_embed"], batch_size=2,
        token_extraction="avg_pool",
    ).rdms  # fmt: skip
    for module, rdm in rdms.items():
        np.testing.assert_array_equal(np.load(out / f"rdm_{module}.npy"), rdm)


def test_contradictory_options_are_refused(server: TestServer, places: list[str | Path]) -> None:
    asked = ["extract-features", *RESNET, *places, "--module-name", "fc"]
    assert "not both" in refused(server, *asked, "--crop", "64", "--no-crop")
    assert "256 or 224x192, got '2.5'" in refused(server, *asked, "--resize", "2.5")
    assert "valid" not in refused(server, *asked, "--no-crop")
    assert "3 x 256 x 384 instead of" in refused(server, *asked, "--no-crop")
    assert "one of cls_token, avg_pool" in refused(server, *asked, "--token-extraction", "cls")


def test_features_come_in_the_format_asked_for(
    server: TestServer, client: Client, places: list[str | Path], photos: list[Path]
) -> None:
    names = sorted(photos, key=lambda photo: photo.name)
    out = Path(places[3])
    model, modules = "torchvision/resnet18@random:0", ["layer4", "fc"]
    expected = client.extract(model, names, modules, batch_size=2).features
    asked = ["extract-features", *RESNET, *places, "--module-name", "layer4"]
    both = [*asked, "--module-name", "fc"]
    for options, ending in (
        (["--file-format", "hdf5"], "hdf5"),
        (["--file-format", "parquet", "--output-type", "tensor"], "parquet"),
        (["--output-type", "tensor"], "pt"),
        ([], "npz"),
    ):
        done = run(server, *both, *options)
        assert done.exit_code == 0, done.output
        (form,) = (one for one in FORMATS.values() if one.suffix == ending)
        saved = form.read(out / f"features.{ending}")
        for module in modules:
            np.testing.assert_array_equal(saved[module], expected[module])
        beside = json.loads((out / f"features.{ending}.json").read_text("utf-8"))
        assert beside["modules"]["fc"]["shape"] == [len(names), 1000]
        assert [image["name"] for image in beside["images"]] == [name.name for name in names]
    assert "one of npy, npz, hdf5" in refused(server, *both, "--file-format", "xls")
    assert "npy holds one array, got 2" in refused(server, *both, "--file-format", "npy")
    assert "ndarray, tensor, got 'list'" in refused(server, *both, "--output-type", "list")


def test_models_are_listed_as_json(server: TestServer) -> None:
    listed = run(server, "models", "resnet5*", "--source", "torchvision", "--json")
    (entry,) = json.loads(listed.stdout)
    assert (entry["name"], entry["backend"]) == ("resnet50", "pt")
    assert [one["tag"] for one in entry["pretrained"]] == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    assert entry["pretrained"][0]["preprocessing"]["resize_pixels"] == [232]
    lines = run(server, "models", "resnet5*", "--source", "torchvision").stdout.splitlines()
    assert lines[0].split()[:4] == ["model", "task", "parameters", "input"]
    assert "IMAGENET1K_V2* (missing), IMAGENET1K_V1 (missing)" in lines[1]


def test_texts_come_as_arguments_or_as_lines(
    server: TestServer, client: Client, tmp_path: Path
) -> None:
    texts = ["a cat", "  ein Hündchen", ""]
    expected = client.extract_texts("custom/OpenCLIP/ViT-S-32-alt@random:0", texts, batch_size=32)
    done = run(server, "extract-texts", *CLIP, "--out-path", tmp_path / "a", *texts)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(
        np.load(tmp_path / "a" / "features.npy"), expected.features["text"]
    )
    (tmp_path / "texts").write_bytes("".join(f"{text}\r\n" for text in texts).encode("utf-8-sig"))
    file = ["--texts-file", tmp_path / "texts"]
    done = run(server, "extract-texts", *CLIP, "--out-path", tmp_path / "b", *file)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "b" / "features.npy").read_bytes() == (
        tmp_path / "a" / "features.npy"
    ).read_bytes()
    assert (tmp_path / "b" / "texts.txt").read_text("utf-8").split("\n") == [*texts, ""]
    ask = ["extract-texts", *CLIP, "--out-path", tmp_path]
    assert "Pass texts as arguments, or a file" in refused(server, *ask)
    assert "Pass texts as arguments, or a file" in refused(server, *ask, *file, "a cat")
    assert "Can't read texts" in refused(server, *ask, "--texts-file", tmp_path / "nowhere")
    assert "no text tower" in refused(
        server, "extract-texts", *RESNET, "--out-path", tmp_path, "a cat"
    )
