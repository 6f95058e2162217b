"""Servers that compute other last bits never share an extraction silently."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.folder_rows import ranges_in, rows_in
from support.long_extractions import BATCH, CHUNK, SQUEEZENET, Stop, task_of
from support.serving import TestServer, serving
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client, read_origin
from thingsvision_client.errors import MixedServersError
from thingsvision_client.jobs import FolderOptions, Task, extract_to_file, extract_to_folder
from thingsvision_client.values.servers import ServerFacts

CHUNKS = FolderOptions(step_size=4)
COUNT = 2 * CHUNK + 6
MODULE = "features.3"


@pytest.fixture(scope="module")
def originals(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_tiny_photos(folder, photos, COUNT)
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TestServer]]:
    """Servers that announce themselves: two alike, and one with other lanes. No gateway."""
    folder = tmp_path_factory.mktemp("mixed")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                serving(
                    folder / "weights",
                    announce_dir=folder / "announced",
                    lame_duck_seconds=0,
                    cpu_lanes=lanes,
                )
            )
            for name, lanes in (("a", 2), ("b", 2), ("other", 1))
        }


@pytest.fixture
def task(originals: Path) -> Task:
    return task_of(originals, modules=(MODULE,))


def expected_of(client: Client, task: Task) -> Any:
    return client.extract(
        task.model, task.images(), task.modules, **vars(replace(task.options, streams=1))
    ).features[MODULE]


def edit_facts(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Edit what the record of a job says that the server reported."""
    (path,) = folder.glob(".features*.job")
    head, *lines = path.read_bytes().splitlines(keepends=True)
    told = json.loads(head)
    change(told["facts"])
    path.write_bytes(b"".join([json.dumps(told).encode(), b"\n", *lines]))


def begin(client: Client, task: Task, folder: Path) -> None:
    """Begin a job that is interrupted after some chunks."""
    with pytest.raises(KeyboardInterrupt):
        extract_to_folder(client, task, folder, options=CHUNKS, progress=Stop(at=CHUNK + 1))


def test_a_reply_names_its_server(three: dict[str, TestServer], photos: list[Path]) -> None:
    with (
        Client(three["a"].address) as client,
        closing(client.stream(SQUEEZENET, photos[:1], MODULE, batch_size=1)) as stream,
    ):
        told, announced = stream.server, client.residency(scope="server").servers[0]
        assert (told.address, told.version) == (three["a"].address, announced.version)
        assert (told.hardware, told.cores) == (announced.hardware, announced.cores)
        assert told.libraries == announced.libraries
        assert told.model_sha256 == stream.provenance.model_sha256
        assert ServerFacts.from_dict(json.loads(json.dumps(told.to_dict()))) == told


def test_a_resumed_job_goes_to_a_server_like_the_first(
    three: dict[str, TestServer], task: Task, tmp_path: Path
) -> None:
    """The client calls a server with other lanes; the rest is computed by one that agrees."""
    with Client(three["a"].address) as first:
        begin(first, task, tmp_path)
        expected = expected_of(first, task)
    with Client(three["other"].address) as other:
        extract_to_folder(other, task, tmp_path, options=CHUNKS)
    np.testing.assert_array_equal(rows_in(tmp_path / MODULE), expected)
    alike = {three[name].address for name in ("a", "b")}
    assert {address for _, _, address in ranges_in(tmp_path / MODULE, "address")} <= alike


def test_without_such_a_server_it_stops_and_names_both(
    three: dict[str, TestServer], task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = "10.0.0.9:50051"
    with Client(three["other"].address) as other:
        begin(other, task, tmp_path)
        edit_facts(tmp_path, lambda facts: facts["server"].update(hardware="GPU X", address=gone))
        with pytest.raises(MixedServersError) as caught:
            extract_to_folder(other, task, tmp_path, options=CHUNKS)
        told = str(caught.value)
        assert f"computed by {gone}" in told
        assert three["other"].address in told
        assert "the hardware is GPU X there and" in told
        assert f"{CHUNK} of {COUNT} images are complete" in told
        mixing = replace(task, options=replace(task.options, allow_mixed=True))
        extract_to_folder(other, mixing, tmp_path, options=CHUNKS)
        assert "the hardware is GPU X there and" in capsys.readouterr().err
    assert len(rows_in(tmp_path / MODULE)) == COUNT


def test_facts_that_a_record_lacks_count_as_the_same_and_that_is_said(
    three: dict[str, TestServer], task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(three["a"].address) as client:
        begin(client, task, tmp_path)
        edit_facts(tmp_path, lambda facts: [facts.pop(one) for one in ("server", "hardware")])
        extract_to_folder(client, task, tmp_path, options=CHUNKS)
        told = capsys.readouterr().err
        assert "not known whether the hardware, the cores of a lane" in told
        np.testing.assert_array_equal(rows_in(tmp_path / MODULE), expected_of(client, task))


def test_calls_without_a_batch_size_go_on_anywhere(
    three: dict[str, TestServer], task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    options = vars(replace(task.options, batch_size=None, streams=2))
    with Client(three["other"].address) as client:
        found = client.extract(task.model, task.images(), MODULE, **options)
        queue = replace(task.images(), computed_by=ServerFacts(address="gone", hardware="GPU X"))
        on = client.extract(task.model, queue, MODULE, **options)
    assert len(found.images) == len(on.images) == COUNT
    assert "take no part" not in capsys.readouterr().err


def test_other_weights_never_mix(three: dict[str, TestServer], task: Task, tmp_path: Path) -> None:
    mixing = replace(task, options=replace(task.options, allow_mixed=True))
    with Client(three["a"].address) as client:
        begin(client, mixing, tmp_path)
        edit_facts(tmp_path, lambda facts: facts["server"].update(model_sha256="ab" * 32))
        with pytest.raises(MixedServersError, match="which never mix"):
            extract_to_folder(client, mixing, tmp_path, options=CHUNKS)


def test_parts_go_to_servers_like_the_first_alone(
    three: dict[str, TestServer],
    task: Task,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a gateway, servers are called directly if not all of them may take part."""
    parted = replace(task, options=replace(task.options, streams="auto"))
    with Client(three["a"].address) as client:
        expected = expected_of(client, task)
        path = extract_to_file(client, parted, tmp_path, file_format="npz")
    with np.load(path) as file:
        np.testing.assert_array_equal(next(iter(file.values())), expected)
    told = read_origin(path)["servers"]
    assert {one["address"] for one in told} == {three[name].address for name in ("a", "b")}
    assert told[0]["first_index"] == 0
    assert sum(one["image_count"] for one in told) == COUNT
    said = capsys.readouterr().err
    assert "1 of 3 servers take no part, as they compute other last bits than" in said
    assert three["other"].address in said


def test_parts_of_any_server_if_they_may_mix(three: dict[str, TestServer], task: Task) -> None:
    with Client(three["other"].address) as client:
        found = client.extract(
            task.model,
            task.images(),
            MODULE,
            **vars(replace(task.options, streams=2, allow_mixed=True)),
        )
        np.testing.assert_array_equal(found.features[MODULE], expected_of(client, task))
    assert found.batch_size == BATCH
