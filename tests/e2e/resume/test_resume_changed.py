"""Extractions whose images or settings changed: refused by name, never mixed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from support.long_extractions import (
    CHUNKS,
    MODULES,
    SQUEEZENET,
    Stop,
    assert_chunks,
    in_memory,
    interrupted,
    task_of,
)
from support.serving import TestServer
from thingsvision_client import Client, Model, errors
from thingsvision_client.images.folder import image_names
from thingsvision_client.jobs import FolderOptions, extract_to_folder
from thingsvision_client.jobs.place import in_folder
from thingsvision_client.jobs.record import Record


def rename(images: Path) -> None:
    names = image_names(images)
    (images / names[40]).rename(images / f"{names[40]}.bmp")


def repaint(images: Path) -> None:
    names = image_names(images)
    (images / names[5]).unlink()
    os.link(images / names[6], images / names[5])


CHANGED_IMAGES = [
    (rename, r"others \('00040 .*\.bmp' is gone, '00040 .*\.bmp\.bmp' is new\)"),
    (repaint, r"image 5, '00005 .*', had SHA-256 [0-9a-f]{64} and has [0-9a-f]{64} now"),
]

CHANGED_SETTINGS = [
    ({"batch_size": 4}, CHUNKS, "batch_size was 8 and is 4 now"),
    ({"model": replace(SQUEEZENET, weights="random:1")}, CHUNKS, "model_sha256 was '[0-9a-f]{64}'"),
    ({"flatten": True}, CHUNKS, "flatten was False and is True now"),
    (
        {"preprocessing": None},
        CHUNKS,
        r"was \{'resize': 32, 'crop': False\} and is None",
    ),
    ({"token_extraction": "cls_token"}, CHUNKS, "token_extraction was None and is 'cls_token'"),
    (
        {"memory_format": "channels_last"},
        CHUNKS,
        "memory_format was 'contiguous' and is 'channels_last' now",
    ),
    ({"compiled": True}, CHUNKS, "compiled was False and is True now"),
    (
        {"modules": MODULES[:1]},
        CHUNKS,
        "'features.3', 'features.5' together: request these together",
    ),
    ({}, FolderOptions(step_size=2), "step_size was 4 and is 2 now"),
    ({}, replace(CHUNKS, output_type="tensor"), "file_format was 'npy' and is 'pt' now"),
]


@pytest.fixture(scope="module")
def half_done(
    server: TestServer, originals: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder of images, and one of an extraction of them that was interrupted."""
    folder = tmp_path_factory.mktemp("half")
    with Client(server.address) as client:
        interrupted(client, task_of(originals), folder)
    return folder


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("changes", "options", "difference"), CHANGED_SETTINGS)
def test_another_setting_is_refused_by_name(
    client: Client,
    originals: Path,
    half_done: Path,
    changes: dict[str, Any],
    options: FolderOptions,
    difference: str,
) -> None:
    before = content_of(half_done)
    with pytest.raises(errors.InvalidRequestError, match=difference) as refused:
        extract_to_folder(client, task_of(originals, **changes), half_done, options=options)
    assert f"delete {half_done}, or choose another folder or suffix" in str(refused.value)
    assert content_of(half_done) == before


@pytest.mark.parametrize(("change", "difference"), CHANGED_IMAGES)
def test_other_images_are_refused_by_name(
    client: Client,
    images: Path,
    half_done: Path,
    change: Callable[[Path], None],
    difference: str,
) -> None:
    before = content_of(half_done)
    change(images)
    with pytest.raises(errors.InvalidRequestError, match=difference):
        extract_to_folder(client, task_of(images), half_done, options=CHUNKS)
    assert content_of(half_done) == before


def test_other_weights_of_the_same_name_are_refused(
    start_server: Callable[..., Any], originals: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights" / "torchvision" / "squeezenet1_0.IMAGENET1K_V1.pth"
    weights.parent.mkdir(parents=True)
    out, task = tmp_path / "out", task_of(originals, model=Model("torchvision", "squeezenet1_0"))
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(torchvision.models.squeezenet1_0().state_dict(), weights)
        with start_server() as server, Client(server.address) as client:
            if seed == 1:
                interrupted(client, task, out)
                continue
            with pytest.raises(errors.InvalidRequestError) as refused:
                extract_to_folder(client, task, out, options=CHUNKS)
    told = re.search(
        r"SHA-256 of the weights is (.{64}) there and (.{64}) here", str(refused.value)
    )
    assert told is not None
    assert told[1] != told[2]
    assert "model was" not in str(refused.value), "its name is the same"


def test_a_batch_size_that_the_server_lowers_is_that_of_the_files(
    start_server: Callable[..., Any], originals: Path, tmp_path: Path
) -> None:
    with start_server(max_batch=6) as server, Client(server.address) as client:
        with pytest.warns(UserWarning, match="from 8 to 6"), pytest.raises(KeyboardInterrupt):
            extract_to_folder(
                client, task_of(originals), tmp_path / "out", options=CHUNKS, progress=Stop(50)
            )
        with pytest.warns(UserWarning, match="from 8 to 6"):
            extract_to_folder(client, task_of(originals), tmp_path / "out", options=CHUNKS)
        expected = in_memory(client, task_of(originals, batch_size=6))
    ranges = [(0, 24), (24, 48), (48, 72), (72, 96), (96, 100)]
    for module, rows in expected.items():
        paths = [tmp_path / "out" / module / f"features_{a}-{b}.npy" for a, b in ranges]
        np.testing.assert_array_equal(np.concatenate([np.load(path) for path in paths]), rows)


def test_other_suffixes_and_modules_are_jobs_of_their_own(
    client: Client, originals: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    task = task_of(originals)
    interrupted(client, task, tmp_path)
    suffixed = replace(CHUNKS, suffix="_b")
    extract_to_folder(client, task_of(originals), tmp_path, options=suffixed)
    assert_chunks(tmp_path, expected, "_b")
    other = replace(task, modules=("features.4",))
    extract_to_folder(client, other, tmp_path, options=CHUNKS)
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    assert_chunks(tmp_path, expected)
    assert_chunks(tmp_path, in_memory(client, other))


def test_of_two_jobs_that_start_together_one_has_a_module(
    client: Client, originals: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    task = task_of(originals)
    sharing = replace(task, modules=MODULES[:1])
    refusals: list[str] = []

    def images() -> Any:  # asked for once the first job has begun, before it has any row
        if not refusals:
            with pytest.raises(errors.InvalidRequestError) as refusal:
                extract_to_folder(client, sharing, tmp_path, options=CHUNKS)
            refusals.append(str(refusal.value))
        return task.images()

    extract_to_folder(client, replace(task, images=images), tmp_path, options=CHUNKS)
    shared = (
        f"{tmp_path} has 'features.3' from an extraction of 'features.3', 'features.5' together"
    )
    assert refusals[0].startswith(shared)
    assert_chunks(tmp_path, expected)


def test_a_job_that_never_began_takes_no_module(
    client: Client, originals: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    task = task_of(originals)
    with pytest.raises(errors.UnknownModuleError):
        extract_to_folder(client, replace(task, modules=(*MODULES, "none")), tmp_path)
    assert not list(tmp_path.iterdir())
    killed = in_folder(tmp_path, "", "npy", (*MODULES, "features.4")).record
    Record(killed, {"modules": [*MODULES, "features.4"]}, {}, None).save()
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    assert_chunks(tmp_path, expected)
