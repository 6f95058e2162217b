"""Files of the version before options had one table (commit 70dc215) are still read.

`tests/earlier_files` has what it wrote of eight images with other options than the defaults: PCAs
in a server's folder, a file of features, one of scores by a PCA, and a job that was interrupted
after two of four chunks.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.serving import TestServer, serving
from thingsvision_client import (
    Client,
    Model,
    PreprocessingOverrides,
    Reduction,
    read_origin,
    verify,
)
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import FolderOptions, Task, extract_to_file, extract_to_folder
from thingsvision_client.values.options import ExtractOptions

EARLIER = Path(__file__).resolve().parents[1] / "earlier_files"
MODEL = Model("torchvision", "squeezenet1_1", "random:0")
MODULES = ("features.3", "features.5")
SMALL = PreprocessingOverrides(resize=32, crop=False)
POOLED = Reduction(pool="mean", pool_axes=(1, 2))
OPTIONS: dict[str, Any] = {"precision": "bfloat16", "memory_format": "channels_last"}
BATCH = 2
CHUNK = FolderOptions(step_size=1)
OLD = "2a09e145d2768a296a05c511cb9d5fbee7fa9cbc2f42dcbd15de5064f9477277"
"""SHA-256 of the PCA `old`, on features of OPTIONS."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files."""
    return Path(shutil.copytree(EARLIER, tmp_path_factory.mktemp("earlier") / "files"))


@pytest.fixture(scope="module")
def server(earlier: Path) -> Iterator[TestServer]:
    """A server over the folder that has the PCAs."""
    with serving(earlier) as running:
        yield running


def task_of(earlier: Path) -> Task:
    root = earlier / "images"
    options = ExtractOptions(
        batch_size=BATCH, preprocessing=SMALL, reduction=POOLED, dtype="float16", **OPTIONS
    )
    images = partial(queue_files, root, image_names(root))
    return Task(
        model=MODEL,
        modules=MODULES,
        images=images,
        options=options,
        root=root,
    )


def test_pcas_are_listed_with_their_options(client: Client) -> None:
    found = {pca.name: pca for pca in client.pcas()}
    old, compiled = found["old"], found["compiled"]
    assert (old.sha256, old.model_id, old.batch_size) == (OLD, str(MODEL), BATCH)
    assert (old.precision, old.memory_format) == ("bfloat16", "channels_last")
    assert (old.compiled, old.deterministic) == (False, False)
    assert old.reduction == {"pool": "POOL_MEAN", "pool_axes": [1, 2]}
    assert old.preprocessing.resize_pixels == (32,)
    assert old.explained_variance_ratio["features.3"][0] == pytest.approx(0.5089, abs=1e-4)
    assert (compiled.compiled, compiled.deterministic, compiled.batch_size) == (True, True, 1)
    assert (compiled.precision, compiled.memory_format) == ("float32", "contiguous")
    assert compiled.reduction == {"projection": {"component_count": 16, "seed": 3}}
    assert [module.shape for module in compiled.modules] == [(16,), (16,)]


def test_a_pca_reduces_features_of_its_options_and_is_what_a_repetition_finds(
    client: Client, earlier: Path
) -> None:
    ask: dict[str, Any] = {"batch_size": BATCH, "preprocessing": SMALL, **OPTIONS}
    by_pca = Reduction(pool="mean", pool_axes=(1, 2), pca="old")
    images = earlier / "images"
    scores = client.extract(MODEL, images, MODULES[0], reduction=by_pca, **ask)
    assert scores.provenance.pca is not None
    assert scores.provenance.pca.sha256 == OLD
    kept = np.load(earlier / "scores" / "features.npy")
    limit = 0.05 * np.abs(kept).max()
    np.testing.assert_allclose(scores.features[MODULES[0]], kept, rtol=0, atol=limit)
    again = client.fit_pca(
        MODEL, images, MODULES[0], components=3, name="old", reduction=POOLED, **ask
    )
    assert again.sha256 == OLD


@pytest.mark.parametrize("name", ["file/features.npz", "scores/features.npy"])
def test_files_of_features_hold(server: TestServer, earlier: Path, name: str) -> None:
    path = earlier / name
    told = read_origin(path)
    assert (told["precision"], told["memory_format"]) == ("bfloat16", "channels_last")
    found = verify(path, server=server.address, image_root=earlier / "images")
    assert found.holds, list(found.lines())


def let_this_framework_have_written(path: Path, client: Client) -> None:
    """Another framework than that of then would be a difference, as it should."""
    with closing(client.stream(MODEL, EARLIER / "images", MODULES[0])) as stream:
        now = stream.provenance
    text = path.read_text("utf-8")
    for was, is_now in (("torch 2.15.0+cu132", now.framework), ("0.1.0", now.server_version)):
        assert f'"{was}"' in text
        text = text.replace(f'"{was}"', f'"{is_now}"')
    path.write_text(text, "utf-8")


def test_a_file_that_is_complete_stays(client: Client, earlier: Path) -> None:
    path = earlier / "file" / "features.npz"
    let_this_framework_have_written(path.with_name("features.npz.json"), client)
    before = path.stat().st_mtime_ns
    assert extract_to_file(client, task_of(earlier), path.parent, file_format="npz") == path
    assert path.stat().st_mtime_ns == before


def test_an_interrupted_job_is_resumed(client: Client, earlier: Path) -> None:
    job, task = earlier / "job", task_of(earlier)
    (record,) = job.glob(".features.*.job")
    let_this_framework_have_written(record, client)
    kept = {path: path.read_bytes() for path in job.rglob("*.npy")}
    assert len(kept) == 2 * len(MODULES)
    extract_to_folder(client, task, job, options=CHUNK)
    assert {path: path.read_bytes() for path in kept} == kept
    fresh = client.extract(
        MODEL,
        task.images(),
        MODULES,
        **vars(task.options),
    )
    for module, rows in fresh.features.items():
        chunks = [np.load(job / module / f"features_{a}-{a + 2}.npy") for a in range(0, 8, BATCH)]
        found = np.concatenate(chunks)
        np.testing.assert_array_equal(found[4:], rows[4:])  # what was computed now
        limit = 0.05 * np.abs(rows).max()
        np.testing.assert_allclose(found[:4], rows[:4], rtol=0, atol=limit)
