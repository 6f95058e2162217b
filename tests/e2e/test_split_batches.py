"""Batches that had to be split are told of in the provenance of all that comes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.closeness import assert_close
from support.sick_device import hold_at_most
from thingsvision_client import Client, Model, Provenance, Reduction, read_origin
from thingsvision_client.images.queue import queue_images
from thingsvision_client.jobs import extract_to_folder
from thingsvision_client.jobs.feature_folder import FolderOptions
from thingsvision_client.jobs.task import Task
from thingsvision_client.values.options import ExtractOptions
from thingsvision_client.values.provenance import SplitBatch

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.4"
CHANNELS = Reduction(pool="mean", pool_axes=(1, 2))
COUNT, SIZE, CHUNK = 20, 16, 8
IMAGES = np.random.default_rng(0).random((COUNT, 3, 64, 64), np.float32)
TOLD = r"no room for batches of 16: it ran images 0 to 15 \(8 at a time\)\. .* smaller batch_size"
SPLIT = [SplitBatch(0, 16, 8)]


@pytest.fixture
def small(start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of a server whose device holds ten images at most."""
    with start_server() as server, Client(server.address) as client:
        whole = client.extract(MODEL, IMAGES, MODULE, batch_size=SIZE)
        assert whole.provenance.split_batches == ()
        hold_at_most(10, monkeypatch)
        yield client, whole


def test_the_rows_and_their_provenance(small: Any) -> None:
    client, whole = small
    with pytest.warns(UserWarning, match=TOLD):
        found = client.extract(MODEL, IMAGES, MODULE, batch_size=SIZE)
    assert_close(found.features[MODULE], whole.features[MODULE])
    assert list(found.provenance.split_batches) == SPLIT
    assert found.to_dict()["split_batches"] == [vars(one) for one in SPLIT]
    assert Provenance.from_dict(found.provenance.to_dict()) == found.provenance
    # Nothing is promised without a batch size, nor broken with a smaller one.
    free = client.extract(MODEL, IMAGES, MODULE)
    assert_close(free.features[MODULE], whole.features[MODULE])
    fitting = client.extract(MODEL, IMAGES, MODULE, batch_size=10)
    assert fitting.provenance.split_batches == ()
    rows = client.stream(MODEL, IMAGES, MODULE, batch_size=SIZE)
    with pytest.warns(UserWarning, match=TOLD):
        assert sum(len(names) for names, _ in rows) == COUNT
    assert list(rows.provenance.split_batches) == SPLIT


def test_rdms_and_pcas(small: Any) -> None:
    client, _ = small
    ask = {"batch_size": SIZE, "reduction": CHANNELS}
    with pytest.warns(UserWarning, match=TOLD):
        rdm = client.rdm(MODEL, IMAGES, MODULE, **ask)
    with pytest.warns(UserWarning, match=TOLD):
        pca = client.fit_pca(MODEL, IMAGES, MODULE, components=2, **ask)
    for provenance in (rdm.provenance, pca.provenance, client.pcas()[0].provenance):
        assert list(provenance.split_batches) == SPLIT


def test_files_of_a_job_that_is_resumed_where_there_is_room(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, whole = small
    options = ExtractOptions(batch_size=4)
    job = Task(Model.parse(MODEL), (MODULE,), lambda: queue_images(IMAGES), options)
    hold_at_most(3, monkeypatch)
    chunks = FolderOptions(step_size=2)
    interrupt = RuntimeError("stop")

    def progress(stage: str, done: int, _count: int | None) -> None:
        if stage == "extracting" and done > CHUNK + 2:
            raise interrupt

    with pytest.raises(RuntimeError, match="stop"):
        extract_to_folder(client, job, tmp_path, options=chunks, progress=progress)
    hold_at_most(COUNT, monkeypatch)
    extract_to_folder(client, job, tmp_path, options=chunks)
    files = tmp_path / MODULE
    for start, stop in ((0, 8), (8, 16), (16, 20)):
        written = read_origin(files / f"features_{start}-{stop}.npy")
        told = [vars(SplitBatch(start, stop - start, 2))] if start == 0 else []
        assert written["split_batches"] == told
    joined = FolderOptions(step_size=2, in_one_file=True)
    extract_to_folder(client, job, tmp_path, options=joined)
    assert read_origin(files / "features.npy")["split_batches"] == [vars(SplitBatch(0, 8, 2))]
    assert_close(np.load(files / "features.npy"), whole.features[MODULE])
