"""Long extractions on disk: killed, interrupted or changed; the same call gives the same bits."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from support.server_process import ServerProcess, server_process
from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client, Model, PreprocessingOverrides, errors
from thingsvision_client.formats import FORMATS
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files, queue_images
from thingsvision_client.jobs import FolderOptions, Task, extract_to_file, extract_to_folder
from thingsvision_client.jobs.place import in_folder
from thingsvision_client.jobs.record import Record
from thingsvision_client.values.reductions import FeatureOptions

COMMAND = Path(sys.executable).parent / "thingsvision-client"
BATCH = 8
CHUNKS = FolderOptions(step_size=4)
CHUNK = 32
MODULES = ("features.3", "features.5")
SMALL = PreprocessingOverrides(resize=32, crop=False)
SQUEEZENET = Model("torchvision", "squeezenet1_0", "random:0")


def task_of(folder: Path, **changes: Any) -> Task:
    names = image_names(folder)
    task = Task(
        SQUEEZENET,
        MODULES,
        partial(queue_files, folder, names),
        BATCH,
        preprocessing=SMALL,
        root=folder,
    )
    return replace(task, **changes)


@pytest.fixture(scope="module")
def originals(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 100 small photographs."""
    folder = tmp_path_factory.mktemp("photos")
    write_tiny_photos(folder, photos, 100)
    return folder


@pytest.fixture
def images(originals: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may change."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in originals.iterdir():
        os.link(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def expected(server: TestServer, originals: Path) -> dict[str, Any]:
    """Their features, extracted at once in memory."""
    with Client(server.address) as client:
        return in_memory(client, task_of(originals))


def in_memory(client: Client, task: Task) -> dict[str, Any]:
    return client.extract(
        task.model,
        task.images(),
        task.modules,
        batch_size=task.batch_size,
        preprocessing=task.preprocessing,
    ).features


@pytest.fixture
def computed(server: TestServer) -> Callable[[], int]:
    """How many images the server computed since the last time of asking."""
    registry = server.running.metrics.registry
    before = 0

    def count() -> int:
        nonlocal before
        now = int(registry.get_sample_value("thingsvision_images_total") or 0)
        before, since = now, now - before
        return since

    count()
    return count


class Stop:
    """Progress that interrupts an extraction as Ctrl-C does, when so many images have come."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, stage: str, done: int, count: int | None) -> None:
        if stage == "extracting" and done >= self.at:
            raise KeyboardInterrupt


def interrupted(client: Client, task: Task, folder: Path, options: FolderOptions = CHUNKS) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract_to_folder(client, task, folder, options=options, progress=Stop(at=2 * CHUNK + 1))


def chunk_paths(folder: Path, module: str, count: int, suffix: str = "") -> list[Path]:
    starts = range(0, count, CHUNK)
    stem = f"features{suffix}"
    return [folder / module / f"{stem}_{a}-{min(a + CHUNK, count)}.npy" for a in starts]


def assert_chunks(folder: Path, expected: dict[str, Any], suffix: str = "") -> None:
    for module, rows in expected.items():
        paths = chunk_paths(folder, module, len(rows), suffix)
        found = {path.name for path in (folder / module).glob(f"features{suffix}_[0-9]*.npy")}
        assert found == {path.name for path in paths}
        np.testing.assert_array_equal(np.concatenate([np.load(path) for path in paths]), rows)


# ---------------------------------------------------------------- killed

EXTRACTING = """
import sys
from functools import partial
from pathlib import Path
from thingsvision_client import Client, Model, PreprocessingOverrides, errors
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_files
from thingsvision_client.jobs import FolderOptions, Task, extract_to_folder
address, images, out, *modules = sys.argv[1:]
root = Path(images)
with Client(address) as client:
    task = Task(
        Model("torchvision", "squeezenet1_0", "random:0"),
        tuple(modules),
        partial(queue_files, root, image_names(root)),
        batch_size=8,
        preprocessing=PreprocessingOverrides(resize=32, crop=False),
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def doomed_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that a test kills, which the helper that started it does not like."""
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
    start, _, rest = told.removeprefix("Resumes at image ").partition(" of ")
    assert rest.startswith(f"{count}: "), told
    return int(start)


# ---------------------------------------------------------------- interrupted


def test_an_interrupted_extraction_goes_on(
    client: Client,
    originals: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    computed: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = task_of(originals)
    interrupted(client, task, tmp_path)
    assert "Interrupted. 64 of 100 images are complete" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.lock"))
    client.unload(SQUEEZENET)  # waits for passes that outlive their reader
    computed()
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    assert computed() == 36
    assert f"Resumes at image 64 of 100: {tmp_path}\n" == capsys.readouterr().err
    assert_chunks(tmp_path, expected)
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    assert f"Complete already: 100 images in {tmp_path}.\n" == capsys.readouterr().err
    assert computed() == 0
    for module, path in ((m, chunk_paths(tmp_path, m, 100)[1]) for m in MODULES):
        told = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
        assert told["modules"]["features"]["module"] == module
        assert told["rows"] == [32, 64]
        assert [image["name"] for image in told["images"]] == image_names(originals)[32:64]
        assert (told["model"], told["batch_size"]) == (str(SQUEEZENET), BATCH)


def test_chunks_are_joined_in_the_end(
    client: Client,
    originals: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    computed: Callable[[], int],
) -> None:
    task, options = task_of(originals), replace(CHUNKS, suffix="_x", in_one_file=True)
    interrupted(client, task, tmp_path, options)
    blocked = tmp_path / MODULES[1] / "features_x.npy"
    blocked.mkdir()
    with pytest.raises(errors.StorageError, match="directory"):
        extract_to_folder(client, task, tmp_path, options=options)
    blocked.rmdir()
    computed()
    extract_to_folder(client, task, tmp_path, options=options)
    assert computed() == 0, "the chunks were there, only the files of all images were not"
    for module, rows in expected.items():
        assert {path.name for path in (tmp_path / module).iterdir()} == {
            "features_x.npy",
            "features_x.npy.json",
        }
        np.testing.assert_array_equal(np.load(tmp_path / module / "features_x.npy"), rows)
    extract_to_folder(client, task, tmp_path, options=options)
    assert computed() == 0
    (tmp_path / MODULES[0] / "features_x.npy").unlink()
    extract_to_folder(client, task, tmp_path, options=options)
    np.testing.assert_array_equal(
        np.load(tmp_path / MODULES[0] / "features_x.npy"), expected[MODULES[0]]
    )


def test_what_the_disk_refuses_leaves_what_is_complete(
    client: Client, originals: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    blocked = chunk_paths(tmp_path, MODULES[1], 100)[1]
    blocked.mkdir(parents=True)
    with pytest.raises(errors.StorageError, match="32 of 100 images are complete for"):
        extract_to_folder(client, task_of(originals), tmp_path, options=CHUNKS)
    blocked.rmdir()
    extract_to_folder(client, task_of(originals), tmp_path, options=CHUNKS)
    assert_chunks(tmp_path, expected)


def test_an_image_that_is_broken_is_named_and_can_be_mended(
    client: Client, images: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    broken = images / image_names(images)[70]
    content = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(b"no image")
    with pytest.raises(errors.ImageError, match=r"broken\. \d\d of 100 images are") as failed:
        extract_to_folder(client, task_of(images), tmp_path / "out", options=CHUNKS)
    assert failed.value.subject == broken.name
    broken.write_bytes(content)
    extract_to_folder(client, task_of(images), tmp_path / "out", options=CHUNKS)
    assert_chunks(tmp_path / "out", expected)


def test_lost_chunks_are_extracted_again(
    client: Client,
    originals: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extract_to_folder(client, task_of(originals), tmp_path, options=CHUNKS)
    chunk_paths(tmp_path, MODULES[1], 100)[2].write_bytes(b"cut")
    extract_to_folder(client, task_of(originals), tmp_path, options=CHUNKS)
    told = capsys.readouterr().err
    assert "Files of images from 64 on are gone or changed" in told
    assert "Resumes at image 64 of 100" in told
    assert_chunks(tmp_path, expected)


def test_arrays_and_images_of_unknown_number_go_on_too(
    client: Client, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = np.random.default_rng(0).normal(size=(20, 3, 48, 48)).astype(np.float32)
    pairs = [(f"input {row}", values) for row, values in enumerate(inputs)]
    whole = Task(SQUEEZENET, MODULES, partial(queue_images, inputs), 4)
    unknown = replace(whole, images=lambda: queue_images(pair for pair in pairs))
    expected = in_memory(client, replace(whole))
    options, stop = FolderOptions(step_size=2), Stop(at=17)
    for name, task, count in (("known", whole, " of 20"), ("unknown", unknown, "")):
        out = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            extract_to_folder(client, task, out, options=options, progress=stop)
        capsys.readouterr()
        extract_to_folder(client, task, out, options=options)
        assert capsys.readouterr().err == f"Resumes at image 16{count}: {out}\n"
        extract_to_folder(client, task, out, options=replace(options, in_one_file=True))
        for module, rows in expected.items():
            np.testing.assert_array_equal(np.load(out / module / "features.npy"), rows)
    inputs[3] += 1
    with pytest.raises(errors.InvalidRequestError, match="image 3, '3', had SHA-256"):
        extract_to_folder(client, whole, tmp_path / "known", options=options)
    fewer = replace(whole, images=partial(queue_images, inputs[:18]))
    with pytest.raises(errors.InvalidRequestError, match="image_count was 20 and is 18 now"):
        extract_to_folder(client, fewer, tmp_path / "known", options=options)


# ---------------------------------------------------------------- changed


def rename(images: Path) -> None:
    names = image_names(images)
    (images / names[40]).rename(images / f"{names[40]}.bmp")


def remove(images: Path) -> None:
    (images / image_names(images)[3]).unlink()


def repaint(images: Path) -> None:
    names = image_names(images)
    (images / names[5]).unlink()
    os.link(images / names[6], images / names[5])


CHANGED_IMAGES = [
    (rename, r"image 40 was '00040 .*\.bmp' and is '00040 .*\.bmp\.bmp' now"),
    (remove, "there were 100 images and are 99 now \\('00003.bmp' is gone\\)"),
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
        {"options": FeatureOptions(memory_format="channels_last")},
        CHUNKS,
        "memory_format was 'contiguous' and is 'channels_last' now",
    ),
    ({"options": FeatureOptions(compiled=True)}, CHUNKS, "compiled was False and is True now"),
    ({"modules": MODULES[:1]}, CHUNKS, "'features.3', 'features.5' at once: ask for these"),
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
    told = re.search(r"model_sha256 was '(.{64})' and is '(.{64})' now", str(refused.value))
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
    shared = f"{tmp_path} has 'features.3' from an extraction of 'features.3', 'features.5' at once"
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


# ---------------------------------------------------------------- one file, the command line


@pytest.mark.parametrize("file_format", ["hdf5", "npz"])
def test_a_file_appears_when_it_is_complete(
    client: Client,
    originals: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    computed: Callable[[], int],
    file_format: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    form, task = FORMATS[file_format], task_of(originals)
    path = tmp_path / f"features.{form.suffix}"
    path.mkdir()
    with pytest.raises(errors.StorageError, match=str(path)):
        extract_to_file(client, task, tmp_path, file_format=file_format)
    path.rmdir()
    assert [entry.name for entry in tmp_path.iterdir()] == [f".{path.name}.parts"]
    assert computed() == 100
    assert extract_to_file(client, task, tmp_path, file_format=file_format) == path
    assert computed() == 0
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, f"{path.name}.json"}
    saved = form.read(path)
    assert list(saved) == list(expected)
    for module, rows in expected.items():
        np.testing.assert_array_equal(saved[module], rows)
    capsys.readouterr()
    extract_to_file(client, task, tmp_path, file_format=file_format)
    assert computed() == 0
    assert "Complete already" in capsys.readouterr().err
    extract_to_file(client, replace(task, flatten=True), tmp_path, file_format=file_format)
    assert computed() == 100
    assert "is of another extraction, and is replaced" in capsys.readouterr().err
    assert form.read(path)[MODULES[0]].ndim == 2


def test_a_format_is_refused_before_anything_is_computed(
    client: Client, originals: Path, tmp_path: Path, computed: Callable[[], int]
) -> None:
    with pytest.raises(errors.InvalidRequestError, match="npy, npz"):
        extract_to_file(client, task_of(originals), tmp_path, file_format="xls")
    for file_format, fault in (("npy", "holds one array, not 2"), ("txt", "holds one array")):
        with pytest.raises(errors.InvalidRequestError, match=fault):
            extract_to_file(client, task_of(originals), tmp_path, file_format=file_format)
    alone = task_of(originals, modules=MODULES[:1])
    with pytest.raises(errors.InvalidRequestError, match="at most 2 dimensions"):
        extract_to_file(client, alone, tmp_path, file_format="txt")
    assert computed() <= 3 * BATCH, "the server may have begun when the shapes were refused"


def test_the_same_command_goes_on(
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
        while b'"chunk"' not in record.read_bytes():
            time.sleep(0.005)
        running.kill()
    assert not (out / "features.npy").exists(), "it was not killed in the middle"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Resumes at image 1024 of 1500" in done.stderr
    task = task_of(images, modules=("features.5",), batch_size=32)
    (rows,) = in_memory(client, task).values()
    saved = np.load(out / "features.npy")
    np.testing.assert_array_equal(saved, rows.reshape(1500, -1))


# ---------------------------------------------------------------- many


def test_ten_thousand_images_keep_their_order(
    client: Client, photos: list[Path], tmp_path: Path
) -> None:
    count, folder, out = 10_000, tmp_path / "images", tmp_path / "out"
    for place, name in enumerate(("Vögel", "a b", "猫", "z")):
        write_tiny_photos(folder / name, photos, 2500, first=place * 2500, side=24)
    tiny = PreprocessingOverrides(resize=24, crop=False)
    task = task_of(folder, modules=("features.2",), batch_size=32, preprocessing=tiny, flatten=True)
    extract_to_folder(client, task, out, options=FolderOptions(in_one_file=True))
    path = out / "features.2" / "features.npy"
    rows = np.load(path)
    names = image_names(folder)
    told = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
    assert len(rows) == len(names) == count
    assert [image["name"] for image in told["images"]] == names
    assert len({row.tobytes() for row in rows}) > 0.99 * count, "rows are alike"
    for row in [0, 1, 31, 32, 4095, 4096, count - 1, *range(7, count, 997)]:
        alone = replace(task, images=partial(queue_files, folder, names[row : row + 1]))
        (own,) = in_memory(client, alone).values()
        np.testing.assert_allclose(rows[row], own.reshape(-1), rtol=1e-4, atol=1e-5)
