"""Processes killed in a long extraction: the same call resumes, and gives the same bits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.long_extractions import (
    CHUNK,
    MODULES,
    assert_chunks,
    chunk_paths,
    in_memory,
    task_of,
)
from support.server_process import ServerProcess, free_port, server_process
from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client

COMMAND = Path(sys.executable).parent / "thingsvision-client"


# ---------------------------------------------------------------- killed

EXTRACTING = """
import sys
from functools import partial
from pathlib import Path
from thingsvision_client import Client, Model, PreprocessingOverrides, errors
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import FolderOptions, Task, extract_to_folder
from thingsvision_client.values.options import ExtractOptions
address, images, out, *modules = sys.argv[1:]
root = Path(images)
with Client(address) as client:
    task = Task(
        Model("torchvision", "squeezenet1_0", "random:0"),
        tuple(modules),
        partial(queue_files, root, image_names(root)),
        ExtractOptions(
            batch_size=8, preprocessing=PreprocessingOverrides(resize=32, crop=False)
        ),
        root=root,
    )
    try:
        extract_to_folder(client, task, Path(out), options=FolderOptions(step_size=4))
    except errors.UnavailableError as error:
        sys.exit(f"Error: {error}")
"""
"""What `task_of` and CHUNKS say, for a process that imports no more than it needs."""


def extracting(address: str, images: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", EXTRACTING, address, str(images), str(out), *MODULES]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.005)


@pytest.fixture
def doomed_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that a test kills, which `server_process` reports as an error."""
    with (
        pytest.raises(AssertionError, match="ended with -9"),
        server_process(tmp_path, port=free_port()) as server,
    ):
        yield server


def test_the_death_of_client_and_server_changes_no_bit(
    doomed_server: ServerProcess, photos: list[Path], tmp_path: Path
) -> None:
    count, images, out = 2000, tmp_path / "images", tmp_path / "out"
    write_tiny_photos(images, photos, count)
    paths = chunk_paths(out, MODULES[0], count)
    address = doomed_server.address

    with extracting(address, images, out) as client:
        wait_for(paths[9], client)
        client.kill()
    done = paths_there(paths)
    before = [path.stat().st_mtime_ns for path in done]
    assert 9 <= len(done) < len(paths) - 20, "it was not killed in the middle"

    with extracting(address, images, out) as client:
        wait_for(paths[len(done) + 15], client)
        doomed_server.process.kill()
        assert client.stderr is not None
        told = client.stderr.read()
    assert client.returncode == 1
    first = resumed_at(told, count)
    assert (len(done) - 1) * CHUNK <= first <= len(done) * CHUNK
    later = paths_there(paths)
    complete = f"{len(later) * CHUNK} of {count} images are complete for {out}: the same call"
    assert complete in told
    assert len(later) < len(paths) - 5, "it was not killed in the middle"

    port = int(address.rpartition(":")[2])
    (tmp_path / "again").mkdir()
    with server_process(tmp_path / "again", port=port) as server:
        with extracting(address, images, out) as client:
            assert client.stderr is not None
            told = client.stderr.read()
        assert client.returncode == 0, told
        assert resumed_at(told, count) == len(later) * CHUNK
        assert server.figure("thingsvision_images_total") == count - len(later) * CHUNK
        with Client(address) as connected:
            assert_chunks(out, in_memory(connected, task_of(images)))
    kept = first // CHUNK
    assert [path.stat().st_mtime_ns for path in done[:kept]] == before[:kept], "computed again"


def paths_there(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]


def resumed_at(told: str, count: int) -> int:
    start, _, rest = told.removeprefix("Resuming at image ").partition(" of ")
    assert rest.startswith(f"{count}: "), told
    return int(start)


# ---------------------------------------------------------------- one file, the command line


def has_a_chunk(record: bytes) -> bool:
    """Tell whether a record has a whole line of a chunk: one that was cut off counts as none."""
    return any(b'"chunk"' in line and line.endswith(b"\n") for line in record.splitlines(True))


def test_the_same_command_resumes(
    server: TestServer, client: Client, photos: list[Path], tmp_path: Path
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    write_tiny_photos(images, photos, 1500)
    command = [COMMAND, "extract-features", "--source", "torchvision", "--no-pretrained"]
    command += ["--model-name", "squeezenet1_0", "--module-name", "features.5", "--flatten-acts"]
    command += ["--batch-size", "32", "--resize", "32", "--no-crop", "--server", server.address]
    command += ["--image-root", images, "--out-path", out]
    record = out / ".features.npy.parts" / "job"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        wait_for(record, running)
        while not has_a_chunk(record.read_bytes()):
            time.sleep(0.005)
        running.kill()
    assert not (out / "features.npy").exists(), "it was not killed in the middle"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Resuming at image 1024 of 1500" in done.stderr
    task = task_of(images, modules=("features.5",), batch_size=32)
    (rows,) = in_memory(client, task).values()
    saved = np.load(out / "features.npy")
    np.testing.assert_array_equal(saved, rows.reshape(1500, -1))
