"""An extraction in several streams gives the bits, the order and the errors of one stream."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from support.long_extractions import BATCH, MODULES, SMALL, SQUEEZENET, break_images, task_of
from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client, get_extractor, load_batches, origin_of, read_origin
from thingsvision_client.cli import app
from thingsvision_client.errors import BadImagesError, InvalidRequestError, UnknownModuleError
from thingsvision_client.images.folder import image_names
from thingsvision_client.jobs import FolderOptions, extract_to_file, extract_to_folder

COUNT = 5 * BATCH + 3
"""Full batches on both lanes, one more, and a rest: the tail runs on all cores."""

OPTIONS: dict[str, Any] = {"batch_size": BATCH, "preprocessing": SMALL}


@pytest.fixture(scope="module")
def originals(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_tiny_photos(folder, photos, COUNT)
    return folder


@pytest.fixture
def images(photos: list[Path], tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    write_tiny_photos(folder, photos, COUNT)
    return folder


def assert_alike(one: Any, other: Any) -> None:
    assert one.images == other.images
    assert one.batch_size == other.batch_size
    assert one.axes == other.axes
    assert replace(other.provenance, servers=()) == one.provenance
    for module, rows in one.features.items():
        assert rows.dtype == other.features[module].dtype
        np.testing.assert_array_equal(other.features[module], rows)


@pytest.mark.parametrize(
    "more",
    [{}, {"dtype": "float16"}, {"memory_format": "channels_last"}, {"flatten": True}],
    ids=["plain", "float16", "channels-last", "flat"],
)
def test_the_bits_are_those_of_one_stream(
    client: Client, originals: Path, more: dict[str, Any]
) -> None:
    options = OPTIONS | more
    one = client.extract(SQUEEZENET, originals, MODULES, **options)
    parts = client.extract(SQUEEZENET, originals, MODULES, streams=3, **options)
    assert_alike(one, parts)
    assert one.provenance.servers == ()
    assert sum(row.image_count for row in parts.provenance.servers) == COUNT
    assert (
        origin_of(parts.features[MODULES[0]])["images"]
        == (  # type: ignore[index]
            origin_of(one.features[MODULES[0]])["images"]  # type: ignore[index]
        )
    )


def test_deterministic_features(client: Client, originals: Path) -> None:
    options: dict[str, Any] = {"deterministic": True, "preprocessing": SMALL}
    one = client.extract(SQUEEZENET, originals, MODULES, **options)
    assert_alike(one, client.extract(SQUEEZENET, originals, MODULES, streams="auto", **options))


def test_lists_generators_and_inputs(client: Client, originals: Path) -> None:
    paths = [originals / name for name in image_names(originals)]
    one = client.extract(SQUEEZENET, paths, MODULES, **OPTIONS)
    assert_alike(one, client.extract(SQUEEZENET, paths, MODULES, streams=4, **OPTIONS))
    given = [(path.name, path.read_bytes()) for path in paths]
    once = client.extract(SQUEEZENET, iter(given), MODULES, **OPTIONS)
    assert_alike(once, client.extract(SQUEEZENET, iter(given), MODULES, streams=4, **OPTIONS))
    inputs = np.random.default_rng(0).normal(size=(9, 3, 32, 32)).astype(np.float32)
    ready = client.extract(SQUEEZENET, inputs, MODULES, batch_size=2)
    assert_alike(ready, client.extract(SQUEEZENET, inputs, MODULES, batch_size=2, streams=2))


def test_a_stream_has_its_rows_in_order(client: Client, originals: Path) -> None:
    stages: list[int] = []
    stream = client.stream(SQUEEZENET, originals, MODULES, streams=3, **OPTIONS)
    for names, rows in stream:
        assert len(names) == len(rows[MODULES[0]]) == len(stream.places)
        stages += stream.places
        assert stream.server_at(stages[-1]).hardware == stream.provenance.hardware
    assert stages == list(range(COUNT))
    assert stream.place_count == COUNT


def test_progress_and_the_end_of_threads(client: Client, originals: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    client.extract(
        SQUEEZENET, originals, MODULES, streams=3, progress=lambda *one: told.append(one), **OPTIONS
    )
    done = [count for stage, count, _ in told if stage == "extracting"]
    assert done == sorted(done)
    assert told[-1] == ("extracting", COUNT, COUNT)
    stream = client.stream(SQUEEZENET, originals, MODULES, streams=3, **OPTIONS)
    next(stream)
    stream.close()
    left = client.stream(SQUEEZENET, originals, MODULES, streams=3, **OPTIONS)
    next(left)
    del left, stream
    gc.collect()
    deadline = time.monotonic() + 30
    while any(one.name.startswith("shards-") for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("places", [[1], [0, 8, 9, 42], list(range(8, 16))])
def test_bad_images_are_those_of_one_stream(
    client: Client, images: Path, places: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    break_images(images, places)
    one = client.extract(SQUEEZENET, images, MODULES, on_error="skip", **OPTIONS)
    said = capsys.readouterr().err
    parts = client.extract(SQUEEZENET, images, MODULES, on_error="skip", streams=3, **OPTIONS)
    assert_alike(one, parts)
    assert parts.skipped == one.skipped
    assert [bad.place for bad in parts.skipped] == places
    assert capsys.readouterr().err == said
    with pytest.raises(BadImagesError) as caught:
        client.extract(SQUEEZENET, images, MODULES, streams=3, **OPTIONS)
    assert [bad.place for bad in caught.value.bad] == places
    assert_alike(one, caught.value.result)


def test_errors_and_what_a_user_raises(client: Client, originals: Path) -> None:
    with pytest.raises(UnknownModuleError):
        client.extract(SQUEEZENET, originals, "featres.3", streams=2, **OPTIONS)

    def images() -> Iterator[Path]:
        yield from (originals / name for name in image_names(originals)[:20])
        raise KeyError("of the user")

    with pytest.raises(KeyError, match="of the user"):
        client.extract(SQUEEZENET, images(), MODULES, streams=2, **OPTIONS)
    for wrong in (0, -1, 2.5, "many", True, None, 1000):
        with pytest.raises(InvalidRequestError, match="`streams`"):
            client.extract(SQUEEZENET, originals, MODULES, streams=wrong)
    for call in (client.rdm, client.fit_pca):
        components = {"components": 2} if call == client.fit_pca else {}
        with pytest.raises(InvalidRequestError, match="one server, where the features of all"):
            call(SQUEEZENET, originals, MODULES, streams=2, **components)


def test_jobs_are_resumed_and_hold_the_same_rows(
    client: Client, originals: Path, tmp_path: Path
) -> None:
    task = task_of(originals)
    parted = replace(task, options=replace(task.options, streams=3))
    chunks = FolderOptions(step_size=1)
    one, other = tmp_path / "one", tmp_path / "other"
    extract_to_folder(client, task, one, options=chunks)

    def stop(stage: str, done: int, _count: int | None) -> None:
        if stage == "extracting" and done > 2 * BATCH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_to_folder(client, parted, other, options=chunks, progress=stop)
    extract_to_folder(client, parted, other, options=chunks)
    found = sorted(path.relative_to(one) for path in one.rglob("*.npy"))
    assert found == sorted(path.relative_to(other) for path in other.rglob("*.npy"))
    for path in found:
        np.testing.assert_array_equal(np.load(other / path), np.load(one / path))
        told, expected = read_origin(other / path), read_origin(one / path)
        for key in ("images", "rows", "servers", "cores", "batch_size", "choices"):
            assert told[key] == expected[key]


@pytest.mark.parametrize("ending", ["npy", "npz", "hdf5", "mat", "txt", "parquet"])
def test_files_of_every_format_are_the_same(
    client: Client, originals: Path, tmp_path: Path, ending: str
) -> None:
    task = replace(task_of(originals), modules=MODULES[:1])
    parted = replace(task, options=replace(task.options, streams=2), flatten=True)
    one = extract_to_file(client, replace(task, flatten=True), tmp_path / "one", file_format=ending)
    other = extract_to_file(client, parted, tmp_path / "other", file_format=ending)
    if ending in ("npy", "txt"):
        assert other.read_bytes() == one.read_bytes()
    assert read_origin(other)["images"] == read_origin(one)["images"]
    assert other.stat().st_size == one.stat().st_size


def test_the_library_and_the_command_line(
    server: TestServer, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINGSVISION_SERVER", server.address)
    extractor = get_extractor("squeezenet1_0", False, None, "torchvision", server=server.address)
    batches = load_batches(originals, tmp_path / "out", extractor.get_backend(), batch_size=BATCH)
    one = extractor.extract_features(batches, MODULES[0])
    parts = extractor.extract_features(batches, MODULES[0], streams=3, allow_mixed=True)
    np.testing.assert_array_equal(parts, one)
    command = ["extract-features", "--model-name", "squeezenet1_0", "--no-pretrained"]
    command += ["--image-root", str(originals), "--module-name", MODULES[0]]
    command += ["--batch-size", str(BATCH), "--out-path", str(tmp_path / "cli")]
    runner = CliRunner()
    assert runner.invoke(app, [*command, "--streams", "some"]).exit_code
    done = runner.invoke(app, [*command, "--streams", "3", "--allow-mixed"])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(tmp_path / "cli" / "features.npy"), one)
