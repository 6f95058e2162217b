"""A job's batches run on the cores that were planned for it, whatever runs beside it or later."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeAlias

import numpy as np
import pytest

from support.closeness import assert_close
from support.long_extractions import BATCH, SQUEEZENET, in_memory, task_of
from support.serving import TestServer
from thingsvision_client import Client, PreprocessingOverrides, read_origin, verify
from thingsvision_client.errors import MixedServersError
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import FolderOptions, Task, extract_to_file, extract_to_folder
from thingsvision_client.values.cores import Cores
from thingsvision_client.verification.verify import Sample
from thingsvision_server.backends.torch.device import core_count
from thingsvision_server.settings import Settings

Rows: TypeAlias = np.ndarray[Any, Any]

COUNT = 20
"""Two full batches, which run side by side on two lanes, and a batch of four on all cores."""

MODULE = "features.12"
SIZE = PreprocessingOverrides(resize=64, crop=False)
"""Its last bits depend on the cores, unlike with smaller images, and on some machines in an
earlier layer."""

CHUNKS = FolderOptions(step_size=1)
LAST = ("features_8-16.npy", "features_16-20.npy")


@pytest.fixture
def task(originals: Path) -> Task:
    names = image_names(originals)[:COUNT]
    task = task_of(originals, modules=(MODULE,), preprocessing=SIZE)
    return replace(task, images=partial(queue_files, originals, names))


@pytest.fixture
def planned(client: Client, task: Task) -> Rows:
    """The features, in memory."""
    return in_memory(client, task)[MODULE]


@pytest.fixture
def on_lanes(client: Client, task: Task) -> Rows:
    """The features with every batch on the cores of a lane, as before cores were planned."""
    images = replace(task.images(), cores=Cores())
    return in_memory(client, replace(task, images=lambda: images))[MODULE]


def rows_of(folder: Path) -> Rows:
    paths = sorted((folder / MODULE).glob("features_*.npy"), key=lambda path: len(path.name))
    assert len(paths) == 3
    return np.concatenate([np.load(path) for path in paths])


def lose_last_chunks(folder: Path) -> None:
    for name in LAST:
        (folder / MODULE / name).unlink()


def edit_facts(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Edit what the record of a job says that the server reported."""
    (path,) = folder.glob(".features*.job")
    head, *lines = path.read_bytes().splitlines(keepends=True)
    told = json.loads(head)
    change(told["facts"])
    path.write_bytes(b"".join([json.dumps(told).encode(), b"\n", *lines]))


@contextmanager
def other_requests(server: TestServer, originals: Path) -> Iterator[None]:
    """Run others' images meanwhile."""
    stop = Event()

    def work() -> None:
        with Client(server.address) as other:
            while not stop.is_set():
                other.extract(SQUEEZENET, originals, MODULE, preprocessing=SIZE)

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


def test_bits_do_not_depend_on_what_runs_beside(
    client: Client,
    server: TestServer,
    originals: Path,
    task: Task,
    planned: Rows,
    on_lanes: Rows,
) -> None:
    found = client.extract(SQUEEZENET, task.images(), MODULE, **vars(task.options))
    cores = found.provenance.cores
    assert cores is not None
    if cores.tail_count:  # two cores or more
        assert (cores.tail_start % BATCH, cores.tail_count > cores.count) == (0, True)
        assert (planned != on_lanes).any(), "what can differ"
    with other_requests(server, originals):
        again = [in_memory(client, task) for _ in range(5)]
    for features in (found.features, *again):
        np.testing.assert_array_equal(features[MODULE], planned)
    assert_close(planned, on_lanes, 1e-6)


def test_a_part_of_a_job_runs_on_the_cores_of_the_whole(
    client: Client, server: TestServer, task: Task, planned: Rows, tmp_path: Path
) -> None:
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    lose_last_chunks(tmp_path)
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    np.testing.assert_array_equal(rows_of(tmp_path), planned)
    files = sorted((tmp_path / MODULE).glob("features_*.npy"))
    found = client.extract(SQUEEZENET, task.images(), MODULE, **vars(task.options))
    told = [read_origin(path)["cores"] for path in files]
    assert told == [vars(found.provenance.cores)] * 3
    for path in files:
        for sample in (1, COUNT):
            again = verify(path, server=server.address, sample=Sample(sample))
            assert [check.is_equal for check in again.modules] == [True]


def test_a_job_of_an_older_version_finishes_on_the_cores_of_a_lane(
    client: Client,
    server: TestServer,
    task: Task,
    on_lanes: Rows,
    tmp_path: Path,
) -> None:
    lanes = replace(task, images=lambda: replace(task.images(), cores=Cores()))
    extract_to_folder(client, lanes, tmp_path, options=CHUNKS)
    edit_facts(tmp_path, lambda facts: facts.pop("cores"))
    lose_last_chunks(tmp_path)
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    np.testing.assert_array_equal(rows_of(tmp_path), on_lanes)
    beside = tmp_path / MODULE / f"{LAST[1]}.json"
    told = json.loads(beside.read_text("utf-8"))
    del told["cores"]
    beside.write_text(json.dumps(told), "utf-8")
    again = verify(beside.with_suffix(""), server=server.address)
    assert [check.is_equal for check in again.modules] == [True]


def test_a_server_with_fewer_cores_goes_on_only_if_it_may_and_says_so(
    client: Client, task: Task, planned: Rows, tmp_path: Path
) -> None:
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    edit_facts(tmp_path, lambda facts: facts.update(cores=vars(Cores(512, 16, 1024))))
    lose_last_chunks(tmp_path)
    with (
        pytest.warns(UserWarning, match="began on 512 cores a pass, and 1024 in"),
        pytest.raises(MixedServersError, match="last passes are 512 and 1024 there and"),
    ):
        extract_to_folder(client, task, tmp_path, options=CHUNKS)
    task = replace(task, options=replace(task.options, allow_mixed=True))
    with pytest.warns(UserWarning, match="began on 512 cores a pass, and 1024 in"):
        extract_to_folder(client, task, tmp_path, options=CHUNKS)
    assert_close(rows_of(tmp_path), planned, 1e-6)


def test_an_image_that_was_repaired_runs_on_the_cores_of_its_batch(
    client: Client, images: Path, task: Task, planned: Rows, tmp_path: Path
) -> None:
    names = image_names(images)[:COUNT]
    broken = images / names[3]
    whole = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(whole[: len(whole) // 2])
    mine = replace(task, images=partial(queue_files, images, names), root=images)
    path = extract_to_file(client, mine, tmp_path, file_format="npy", on_error="skip")
    assert len(np.load(path)) == COUNT - 1
    broken.write_bytes(whole)
    extract_to_file(client, mine, tmp_path, file_format="npy")
    np.testing.assert_array_equal(np.load(path), planned)


def test_passes_keep_to_a_lane_where_the_number_of_images_does_not_count(
    client: Client, originals: Path
) -> None:
    paths = [originals / name for name in image_names(originals)[:3]]
    ways: list[tuple[Any, dict[str, Any]]] = [
        (paths, {"deterministic": True}),
        (iter(paths), {"batch_size": 2}),
    ]
    for images, options in ways:
        with closing(client.stream(SQUEEZENET, images, MODULE, **options)) as stream:
            cores = stream.provenance.cores
        assert cores == Cores(max(1, core_count() // Settings().cpu_lanes))
    found = client.extract(SQUEEZENET, paths, MODULE, preprocessing=SIZE)
    assert found.provenance.cores is None, "the load decides"
