"""A job goes on with other hardware only if it may, and says so, as does a check of its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.long_extractions import SQUEEZENET, in_memory, task_of
from thingsvision_client import Client, read_origin, verify
from thingsvision_client.errors import MixedServersError
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import FolderOptions, Task, extract_to_folder
from thingsvision_server.backends.torch.hardware import describe_hardware

MODULE = "features.3"
CHUNKS = FolderOptions(step_size=1)
OTHER = "NVIDIA H200, driver 580.1, CUDA 13.0, cuDNN 91200"


@pytest.fixture
def task(originals: Path) -> Task:
    names = image_names(originals)[:20]
    return replace(
        task_of(originals, modules=(MODULE,)), images=partial(queue_files, originals, names)
    )


def edit_facts(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Edit what the record of a job says that the server reported."""
    (path,) = folder.glob(".features*.job")
    head, *lines = path.read_bytes().splitlines(keepends=True)
    told = json.loads(head)
    change(told["facts"])
    path.write_bytes(b"".join([json.dumps(told).encode(), b"\n", *lines]))


def lose_last_chunk(folder: Path) -> None:
    (folder / MODULE / "features_16-20.npy").unlink()


def test_provenance_names_the_processor(client: Client, photos: list[Path]) -> None:
    found = client.extract(SQUEEZENET, photos[:2], MODULE).provenance
    assert found.hardware == describe_hardware("cpu")
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line for line in info if line.startswith("model name"))
    assert found.hardware.startswith(model.partition(": ")[2])
    assert f"on cpu ({found.hardware}) with torch" in found.methods_text()


def set_hardware(folder: Path, hardware: str) -> None:
    def change(facts: dict[str, Any]) -> None:
        facts["hardware"] = hardware
        facts["server"].pop("hardware", None)

    edit_facts(folder, change)


def test_a_job_goes_on_with_other_hardware_only_if_it_may_and_says_so(
    client: Client, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    mixing = replace(task, options=replace(task.options, allow_mixed=True))
    sentence = f"the hardware is {OTHER} there and {describe_hardware('cpu')} here"
    for was, is_told in ((OTHER, True), (describe_hardware("cpu"), False)):
        lose_last_chunk(tmp_path)
        set_hardware(tmp_path, was)
        if is_told:
            with pytest.raises(MixedServersError, match=sentence):
                extract_to_folder(client, task, tmp_path, options=CHUNKS)
        capsys.readouterr()
        extract_to_folder(client, mixing if is_told else task, tmp_path, options=CHUNKS)
        assert capsys.readouterr().err.count(sentence) == is_told
    # What began before servers told it goes on, too.
    lose_last_chunk(tmp_path)
    edit_facts(tmp_path, lambda facts: [facts.pop(one) for one in ("hardware", "server")])
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    assert "It is not known whether the hardware" in capsys.readouterr().err
    assert in_memory(client, task)[MODULE].shape[0] == 20
    (path, *_) = (tmp_path / MODULE).glob("features_*.npy")
    assert read_origin(path)["hardware"] == describe_hardware("cpu")


def test_a_check_of_files_notes_other_hardware(
    client: Client, server: Any, task: Task, tmp_path: Path
) -> None:
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    path = tmp_path / MODULE / "features_16-20.npy"
    beside = path.with_name(f"{path.name}.json")
    told = json.loads(beside.read_text("utf-8"))
    beside.write_text(json.dumps(told | {"hardware": OTHER}), "utf-8")
    found = verify(path, server=server.address)
    assert found.holds
    assert found.notes == (f"hardware was {OTHER!r} and is {describe_hardware('cpu')!r} now",)
