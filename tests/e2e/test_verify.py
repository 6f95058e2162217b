"""`verify` says whether a file of features still holds, and if not, what changed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client, Model, PreprocessingOverrides, errors
from thingsvision_client.cli import app
from thingsvision_client.formats import FORMATS
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files, queue_images
from thingsvision_client.images.texts import queue_texts
from thingsvision_client.jobs import FolderOptions, Task, extract_to_file, extract_to_folder
from thingsvision_client.origins import (
    file_sha256,
    read_origin,
    record_fingerprints,
    remember_extraction,
    write_origin,
)
from thingsvision_client.utils.reading import load_features
from thingsvision_client.utils.storing import save_features, split_features
from thingsvision_client.values.options import ExtractOptions
from thingsvision_client.values.reductions import Reduction
from thingsvision_client.verification.verdict import Verification
from thingsvision_client.verification.verify import Sample, verify

MODULES = ("features.3", "features.5")
BATCH = 4
SMALL = PreprocessingOverrides(resize=32, crop=False, mean=(0.5, 0.5, 0.5))
SQUEEZENET = Model("torchvision", "squeezenet1_0", "random:0")
ROW_COUNT = 22

Verify = Callable[..., Verification]


@pytest.fixture
def images(photos: list[Path], tmp_path: Path) -> Path:
    """A folder of photographs, small ones."""
    folder = tmp_path / "images"
    write_tiny_photos(folder, photos, ROW_COUNT)
    return folder


@pytest.fixture
def task(images: Path) -> Task:
    """Two modules of them."""
    names = image_names(images)
    return Task(
        SQUEEZENET,
        MODULES,
        partial(queue_files, images, names),
        ExtractOptions(batch_size=BATCH, preprocessing=SMALL),
        root=images,
    )


@pytest.fixture
def check(server: TestServer) -> Verify:
    """Verify by the server of the tests."""
    return partial(verify, server=server.address)


def edit(path: Path, **changes: Any) -> None:
    """Change the metadata beside a file, as if it had been made differently."""
    beside = path.with_name(f"{path.name}.json")
    told = json.loads(beside.read_text("utf-8"))
    beside.write_text(json.dumps({**told, **changes}), "utf-8")


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_of_every_format_holds(
    client: Client, task: Task, tmp_path: Path, check: Verify, file_format: str
) -> None:
    if file_format in ("npy", "txt"):
        task = replace(task, modules=MODULES[:1], flatten=True)
    path = extract_to_file(client, task, tmp_path / "out", file_format=file_format)
    found = check(path, sample=Sample(ROW_COUNT))
    assert found.holds, list(found.lines())
    assert [(one.module, one.verdict, one.row_count) for one in found.modules] == [
        (module, "equal", ROW_COUNT) for module in task.modules
    ]
    assert found.notes == ()


def test_chunks_and_joined_files_hold(
    client: Client, task: Task, tmp_path: Path, check: Verify
) -> None:
    out, options = tmp_path / "out", FolderOptions(step_size=2)
    extract_to_folder(client, task, out, options=options)
    for module in MODULES:
        for rows in ("0-8", "8-16", "16-22"):
            found = check(out / module / f"features_{rows}.npy", sample=Sample(8))
            assert [one.verdict for one in found.modules] == ["equal"]
            assert found.modules[0].row_count == (6 if rows == "16-22" else 8)
    extract_to_folder(client, task, out, options=replace(options, in_one_file=True))
    found = check(out / MODULES[1] / "features.npy", sample=Sample(1))
    assert found.holds
    assert found.modules[0].row_count in (2, BATCH), "one image is checked with its batch"


def test_saved_and_split_features_hold(
    client: Client, task: Task, images: Path, tmp_path: Path, check: Verify
) -> None:
    queue, sent = record_fingerprints(task.images())
    result = client.extract(task.model, queue, list(MODULES), batch_size=BATCH, preprocessing=SMALL)
    remember_extraction(result, sent, root=images, options=ExtractOptions(preprocessing=SMALL))
    save_features(result.features, tmp_path, "npz")
    found = check(tmp_path / "features.npz")
    assert [one.verdict for one in found.modules] == ["equal", "equal"]
    split_features(result.features[MODULES[0]], tmp_path / "split", "npy", n_splits=3)
    pieces = sorted((tmp_path / "split").glob("*.npy"))
    assert len(pieces) == 3
    verdicts = [one.verdict for path in pieces for one in check(path, sample=Sample(9)).modules]
    assert verdicts == ["equal"] * 3, "whole batches of a piece are equal"
    split_features(result.features, tmp_path / "both", "npy", n_splits=2)
    pieces = sorted((tmp_path / "both").rglob("*.npy"))
    assert len(pieces) == 4
    assert all(check(path).holds for path in pieces)
    path = tmp_path / "features.npy"
    np.save(path, result.features[MODULES[0]] - 1)
    write_origin(path, result.features[MODULES[0]] - 1)
    with pytest.raises(errors.InvalidRequestError, match="origin of these features is unknown"):
        check(path)


@pytest.mark.parametrize("is_flat", [False, True])
def test_features_of_a_client_hold(
    client: Client, images: Path, tmp_path: Path, check: Verify, is_flat: bool
) -> None:
    bad = images / image_names(images)[5]
    bad.unlink()
    bad.write_bytes(b"not an image")
    found = client.extract(
        SQUEEZENET, images, MODULES, batch_size=BATCH, flatten=is_flat, on_error="skip",
    )  # fmt: skip
    save_features(found.features[MODULES[0]], tmp_path, "npy")
    assert load_features(tmp_path).provenance == found.provenance
    assert len(read_origin(tmp_path / "features.npy")["skipped"]) == 1
    assert check(tmp_path / "features.npy").holds
    with pytest.raises(errors.BadImagesError) as caught:
        client.extract(SQUEEZENET, images, MODULES, batch_size=BATCH, flatten=is_flat)
    save_features(caught.value.result.features[MODULES[1]], tmp_path / "others", "npy")
    assert check(tmp_path / "others/features.npy").holds


def test_choices_are_made_again(client: Client, task: Task, tmp_path: Path, check: Verify) -> None:
    options = replace(
        task.options,
        batch_size=1,
        deterministic=True,
        dtype="float16",
        reduction=Reduction("max", (1, 2)),
    )
    chosen = replace(task, options=options)
    path = extract_to_file(client, chosen, tmp_path / "out", file_format="npz")
    assert np.load(path)[MODULES[0]].shape == (ROW_COUNT, 128)
    found = check(path)
    assert [one.verdict for one in found.modules] == ["equal", "equal"]
    again = replace(chosen, options=replace(options, reduction=Reduction("mean", (1, 2))))
    means = extract_to_file(client, again, tmp_path / "means", file_format="npz")
    path.write_bytes(means.read_bytes())
    edit(path, file_sha256=file_sha256(path))
    assert [one.verdict for one in check(path).modules] == ["different", "different"]


def test_texts_hold(client: Client, tmp_path: Path, check: Verify) -> None:
    queue, sent = record_fingerprints(queue_texts(["a cat", "ein Hündchen", ""]))
    result = client.extract("custom/OpenCLIP/ViT-S-32-alt@random:0", queue, "text", batch_size=2)
    remember_extraction(result, sent, options=ExtractOptions())
    save_features(result.features["text"], tmp_path, "npy")
    found = check(tmp_path / "features.npy")
    assert [(one.verdict, one.row_count) for one in found.modules] == [("equal", 3)]


DRAWER = """#!/bin/sh
for word in "$@"; do
    case "$word" in -sOutputFile=*) out="${word#*=}" ;; esac
done
[ "$1" = --version ] || { printf 'P6\\n40 40\\n255\\n'; head -c 4800 /dev/zero; } > "$out"
"""
"""In the place of Ghostscript: draws every figure of 40 x 40 points black."""


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_figures_hold_as_they_were_drawn(
    client: Client, tmp_path: Path, check: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import EpsImagePlugin

    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(DRAWER)
    program.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # what Pillow found, it remembers
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EOF\n")
    images = partial(queue_files, figures, ["a.eps"])
    options = ExtractOptions(batch_size=BATCH, preprocessing=SMALL)
    task = Task(SQUEEZENET, MODULES, images, options, root=figures)
    found = check(extract_to_file(client, task, tmp_path / "out", file_format="npz"))
    assert found.holds, list(found.lines())


def test_changed_and_missing_images_are_named(
    client: Client, task: Task, images: Path, tmp_path: Path, check: Verify
) -> None:
    path = extract_to_file(client, task, tmp_path / "out", file_format="hdf5")
    names = image_names(images)
    (images / names[5]).unlink()
    (images / names[9]).unlink()
    os.link(images / names[8], images / names[9])
    found = check(path, sample=Sample(ROW_COUNT))
    assert not found.holds
    assert found.faults == (
        f"1 of 22 images can't be read: {names[5]!r}",
        f"1 of 22 images changed: {names[9]!r}",
    )
    untouched = ROW_COUNT - 2 * BATCH
    assert [(one.verdict, one.row_count) for one in found.modules] == [("equal", untouched)] * 2
    images.rename(tmp_path / "moved")
    found = check(path)
    assert "22 of 22 images can't be read: " in found.faults[0]
    assert [one.verdict for one in found.modules] == ["unchecked", "unchecked"]
    assert len(check(path, image_root=tmp_path / "moved").faults) == 2


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "equal"), (1 + 2e-6, "rounding"), (1.01, "different")]
)
def test_values_are_compared(
    client: Client, task: Task, tmp_path: Path, check: Verify, factor: float, verdict: str
) -> None:
    task = replace(task, modules=MODULES[:1])
    path = extract_to_file(client, task, tmp_path / "out", file_format="npy")
    np.save(path, np.load(path) * np.float32(factor))
    found = check(path)
    assert [one.verdict for one in found.modules] == [verdict]
    assert found.holds == (factor == 1)
    edit(path, file_sha256=file_sha256(path))
    found = check(path)
    assert found.holds == (verdict != "different")
    assert found.modules[0].largest_difference == pytest.approx(factor - 1, rel=0.2, abs=1e-9)


def test_changes_of_a_file_are_reported(
    client: Client, task: Task, tmp_path: Path, check: Verify
) -> None:
    task = replace(task, modules=MODULES[:1])
    path = extract_to_file(client, task, tmp_path / "out", file_format="npy")
    rows = np.load(path)
    np.save(path, rows[1:])
    found = check(path)
    assert "its SHA-256 differs" in found.faults[0]
    assert "(22, 128, 6, 6), got (21, 128, 6, 6)" in found.faults[1]
    path.write_bytes(b"nothing")
    assert "Can't read" in check(path).faults[1]
    path.unlink()
    assert "No such file" in check(path).faults[0]


def test_changed_weights_and_servers_are_reported(
    client: Client, task: Task, tmp_path: Path, check: Verify
) -> None:
    path = extract_to_file(client, task, tmp_path / "out", file_format="npz")
    edit(path, framework="torch 1.0", device="cuda:0")
    found = check(path)
    assert found.holds, "other software is worth a note; the bits are equal all the same"
    assert "framework was 'torch 1.0' and is 'torch" in found.notes[1]
    assert found.notes[0] == "device was 'cuda' and is 'cpu' now"
    edit(path, model=f"{SQUEEZENET.source}/{SQUEEZENET.name}@random:1")
    found = check(path)
    assert not found.holds
    assert "the weights of torchvision/squeezenet1_0@random:1 had SHA-256" in found.faults[0]
    assert [one.verdict for one in found.modules] == ["different", "different"]


def test_inputs_that_are_not_in_files_cannot_be_checked(
    client: Client, photos: list[Path], tmp_path: Path, check: Verify
) -> None:
    inputs = np.zeros((3, 3, 48, 48), np.float32)
    options = ExtractOptions(batch_size=BATCH)
    task = Task(SQUEEZENET, MODULES, partial(queue_images, inputs), options)
    path = extract_to_file(client, task, tmp_path, file_format="npz")
    with pytest.raises(errors.InvalidRequestError, match="arrays of model inputs"):
        check(path)
    with pytest.raises(errors.InvalidRequestError, match=r"There is no file '.*features\.npy'"):
        check(tmp_path / "features.npy")
    pairs = partial(queue_images, [("0", photos[0].read_bytes()), ("1", photos[1].read_bytes())])
    path = extract_to_file(
        client, Task(SQUEEZENET, MODULES, pairs, options), tmp_path / "pairs", file_format="npz"
    )
    with pytest.raises(errors.InvalidRequestError, match=r"not files, such as '0' .* not stored"):
        check(path)
    (tmp_path / "files").mkdir()
    for name, image in zip("01", photos, strict=False):
        os.link(image, tmp_path / "files" / name)
    assert check(path, image_root=tmp_path / "files").holds
    texts, sent = record_fingerprints(queue_texts(["a cat", ("dog", "ein Hündchen")]))
    result = client.extract("custom/OpenCLIP/ViT-S-32-alt@random:0", texts, "text", batch_size=2)
    remember_extraction(result, sent, options=ExtractOptions())
    save_features(result.features["text"], tmp_path / "texts", "npy")
    with pytest.raises(errors.InvalidRequestError, match="SHA-256 of the text 'dog' are stored"):
        check(tmp_path / "texts/features.npy")
    (tmp_path / "features.xyz.json").write_bytes((tmp_path / "features.npz.json").read_bytes())
    with pytest.raises(errors.InvalidRequestError, match=r"must be one of \.npy, \.npz"):
        check(tmp_path / "features.xyz")
    with pytest.raises(errors.InvalidRequestError, match="at least 1 image, got 0"):
        Sample(0)


def test_the_command_tells_by_its_exit_code(
    server: TestServer, client: Client, task: Task, images: Path, tmp_path: Path
) -> None:
    path = extract_to_file(client, task, tmp_path / "out", file_format="npz")
    command = ["verify", str(path), "--server", server.address, "--sample", "3", "--seed", "2"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "features.3: equal bit for bit (" in done.output
    assert done.output.endswith(f"{path} passes the check.\n")
    name = image_names(images)[0]
    (images / name).write_bytes(b"another")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert f"Wrong: 1 of 22 images changed: {name!r}.\n" in done.output
    assert done.output.endswith(f"{path} fails the check.\n")
