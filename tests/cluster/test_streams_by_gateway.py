"""Streams through a real gateway: their servers, a rolling upgrade, and servers that die."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support.cluster import Cluster, cluster_of, until
from support.folder_rows import ranges_in, rows_in
from support.long_extractions import SMALL, Stop
from support.matlab_folder import started_helper
from support.stock_calls import StockCaller
from support.tiny_photos import write_tiny_photos
from support.upgraded_server import upgraded
from thingsvision_client import Client, Model, get_extractor, load_batches
from thingsvision_client.cli import app
from thingsvision_client.errors import MixedServersError
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import FolderOptions, Task, extract_to_folder
from thingsvision_client.values.options import ExtractOptions

BATCH, COUNT = 4, 45
MODULE = "features.3"
CHUNKS = FolderOptions(step_size=2)
OPTIONS: dict[str, Any] = {"batch_size": BATCH, "preprocessing": SMALL}
NEWER = "999.1"


@pytest.fixture(scope="module")
def originals(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_tiny_photos(folder, photos, COUNT)
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with cluster_of(folder, "a", "b", log_level="warning") as cluster:
        cluster.start("new", **upgraded(folder / "upgraded", NEWER))
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """Two servers of this version, and one of another."""
    running.bring_back("a", "b")
    return running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with cluster.client() as connected:
        yield connected


def model_at(cluster: Cluster, name: str) -> Model:
    """Return a model whose calls the gateway gives to a server, which may take it a moment."""
    models = [f"torchvision/squeezenet1_1@random:{seed}" for seed in range(30)]
    with cluster.channel() as channel:
        stock = StockCaller(channel)

        def find() -> str | None:
            homes = (one for one in models if cluster.server_of(stock, ("x-model", one)) == name)
            return next(homes, None)

        until(find, f"a model of thirty is at {name}", 30)
        found = find()
    assert found is not None
    return Model.parse(found)


def task_at(folder: Path, model: Model, **options: Any) -> Task:
    return Task(
        model,
        (MODULE,),
        lambda: queue_files(folder, image_names(folder)),
        ExtractOptions(**OPTIONS | options),
        root=folder,
    )


def test_streams_use_all_servers_that_agree_and_no_others(
    cluster: Cluster, client: Client, originals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_at(cluster, "a")
    one = client.extract(model, originals, MODULE, **OPTIONS)
    alike = client.extract(model, originals, MODULE, streams="auto", **OPTIONS)
    np.testing.assert_array_equal(alike.features[MODULE], one.features[MODULE])
    used = {row.server.address for row in alike.provenance.servers}
    assert used == {cluster.address_of("a"), cluster.address_of("b")}
    assert "1 of 3 servers take no part" in capsys.readouterr().err
    cluster.settle("a", "b")
    spread = client.extract(model, originals, MODULE, streams=4, allow_mixed=True, **OPTIONS)
    np.testing.assert_array_equal(spread.features[MODULE], one.features[MODULE])
    assert {row.server.address for row in spread.provenance.servers} == used


def test_a_rolling_upgrade_does_not_mix_versions(
    cluster: Cluster, client: Client, originals: Path, tmp_path: Path
) -> None:
    """The model's server is of another version when the job goes on."""
    model = model_at(cluster, "new")
    task = task_at(originals, model)
    cluster.settle("a", "b")
    with pytest.raises(KeyboardInterrupt):
        extract_to_folder(client, task, tmp_path, options=CHUNKS, progress=Stop(at=9))
    expected = client.extract(model, originals, MODULE, **OPTIONS).features[MODULE]
    cluster.settle()
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    np.testing.assert_array_equal(rows_in(tmp_path / MODULE), expected)
    assert NEWER not in {version for _, _, version in ranges_in(tmp_path / MODULE, "version")}


def test_the_end_of_an_upgrade_stops_a_job_unless_it_may_mix(
    cluster: Cluster, client: Client, originals: Path, tmp_path: Path
) -> None:
    model = model_at(cluster, "a")
    task = task_at(originals, model)
    first = cluster.address_of("a")
    with pytest.raises(KeyboardInterrupt):
        extract_to_folder(client, task, tmp_path, options=CHUNKS, progress=Stop(at=9))
    was = next(one.version for one in client.residency().servers if one.address == first)
    for name in ("a", "b"):
        cluster.end(name, signal.SIGTERM)
    cluster.settle()
    with pytest.raises(MixedServersError) as caught:
        extract_to_folder(client, task, tmp_path, options=CHUNKS)
    told = str(caught.value)
    assert first in told
    assert cluster.address_of("new") in told
    assert f"the version of the server is {was} there and {NEWER} here" in told
    mixing = replace(task, options=replace(task.options, allow_mixed=True, streams=2))
    extract_to_folder(client, mixing, tmp_path, options=CHUNKS)
    ranges = ranges_in(tmp_path / MODULE, "version")
    assert [version for _, _, version in ranges] == [was] + [NEWER] * (len(ranges) - 1)
    assert sum(count for _, count, _ in ranges) == COUNT


def kill_at(cluster: Cluster, name: str, count: int) -> Callable[..., None]:
    """Return a progress that ends a server once rows of so many images came."""

    def report(stage: str, done: int, _count: int | None) -> None:
        if stage == "extracting" and done >= count and name in cluster.servers:
            cluster.end(name)

    return report


@pytest.mark.parametrize("streams", [1, 3])
def test_a_killed_server_costs_a_job_nothing(
    cluster: Cluster, client: Client, originals: Path, tmp_path: Path, streams: int
) -> None:
    """Also before its first chunk is complete; in the library, and with several streams."""
    model = model_at(cluster, "a")
    expected = client.extract(model, originals, MODULE, **OPTIONS).features[MODULE]
    task = task_at(originals, model, streams=streams)
    kill = kill_at(cluster, "a", 5)
    extract_to_folder(client, task, tmp_path, options=FolderOptions(), progress=kill)
    assert "a" not in cluster.servers
    np.testing.assert_array_equal(rows_in(tmp_path / MODULE), expected)


def test_the_library_and_the_command_line_go_on(
    cluster: Cluster, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINGSVISION_SERVER", cluster.address)
    monkeypatch.setenv("THINGSVISION_CA", str(cluster.files / "ca.pem"))
    monkeypatch.setenv("THINGSVISION_TOKEN", cluster.token)
    cluster.settle("a", "b")
    extractor = get_extractor("squeezenet1_1", False, None, "torchvision")
    batches = load_batches(originals, tmp_path, extractor.get_backend(), batch_size=BATCH)
    expected = extractor.extract_features(batches, MODULE)
    home = next(
        cluster.name_of(one.server)
        for one in extractor.client.residency().models
        if one.model_id.endswith("squeezenet1_1@random:0")
    )
    kill = kill_at(cluster, home, 5)
    extractor.extract_features(
        batches, MODULE, output_dir=str(tmp_path / "library"), step_size=1, progress=kill
    )
    np.testing.assert_array_equal(rows_in(tmp_path / "library" / MODULE), expected)
    command = ["extract-features", "--model-name", "squeezenet1_1", "--no-pretrained"]
    command += ["--image-root", str(originals), "--module-name", MODULE, "--streams", "auto"]
    command += ["--batch-size", str(BATCH), "--out-path", str(tmp_path / "cli")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(tmp_path / "cli" / "features.npy"), expected)


def test_matlabs_helper_goes_on(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    """It saves features of images that are large enough for a server to die in the middle."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 255, (300, 300, 3), np.uint8)
        Image.fromarray(noise).save(images / f"{number:02}.png")
    model = model_at(cluster, "a")
    options = {"BatchSize": BATCH, "Streams": 2}
    asked: dict[str, Any] = {"model": str(model), "modules": [MODULE], "flatten": True}
    asked |= {"images": {"kind": "files", "folder": str(tmp_path), "names": ["images"]}}
    asked |= {"path": str(tmp_path / "out.mat"), "output_as": "rows", "options": options}
    asked["connection"] = {"Server": cluster.address, "Token": cluster.token}
    asked["connection"]["Ca"] = str(cluster.files / "ca.pem")
    victim = cluster.servers["a"]
    name = "thingsvision_images_total"
    before = victim.figure(name)
    with started_helper(tmp_path) as helper, ThreadPoolExecutor(1) as thread:
        answer = thread.submit(helper.ask, "save", **asked)
        until(lambda: victim.figure(name) > before or answer.done(), "images are computed", 60)
        cluster.end("a")
        assert answer.result()["ok"], answer.result()
    expected = client.extract(model, images, MODULE, batch_size=BATCH).features[MODULE]
    with h5py.File(tmp_path / "out.mat") as file:
        rows = file["features"][()]
    assert rows.size == expected.size
    np.testing.assert_array_equal(np.sort(rows.ravel()), np.sort(expected.ravel()))
