"""Interrupted extractions to folders and files: the same call gives the same bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.long_extractions import (
    BATCH,
    CHUNK,
    CHUNKS,
    MODULES,
    SQUEEZENET,
    Stop,
    assert_chunks,
    chunk_paths,
    in_memory,
    interrupted,
    task_of,
)
from thingsvision_client import Client, errors
from thingsvision_client.formats import FORMATS
from thingsvision_client.images.folder import image_names
from thingsvision_client.images.queue import queue_images
from thingsvision_client.jobs import FolderOptions, Task, extract_to_file, extract_to_folder
from thingsvision_client.values.options import ExtractOptions

# ---------------------------------------------------------------- interrupted


def test_an_interrupted_extraction_resumes(
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
    assert f"Resuming at image 64 of 100: {tmp_path}\n" == capsys.readouterr().err
    assert_chunks(tmp_path, expected)
    extract_to_folder(client, task, tmp_path, options=CHUNKS)
    assert f"Already complete: 100 images in {tmp_path}.\n" == capsys.readouterr().err
    assert computed() == 0
    for module, path in ((m, chunk_paths(tmp_path, m, 100)[1]) for m in MODULES):
        told = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
        assert told["modules"]["features"]["module"] == module
        assert told["rows"] == [32, 64]
        assert [image["name"] for image in told["images"]] == image_names(originals)[32:64]
        assert (told["model"], told["batch_size"]) == (str(SQUEEZENET), BATCH)


def test_chunks_of_batches_that_the_server_chooses(
    client: Client, originals: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Nobody knows the size of such a batch: a chunk's is given in images then."""
    task, options = task_of(originals, batch_size=None), FolderOptions(step_size=CHUNK)
    interrupted(client, task, tmp_path, options)
    extract_to_folder(client, task, tmp_path, options=options)
    for module, rows in expected.items():
        chunks = [np.load(path) for path in chunk_paths(tmp_path, module, len(rows))]
        assert [len(one) for one in chunks] == [32, 32, 32, 4]
        np.testing.assert_allclose(np.concatenate(chunks), rows, rtol=1e-4, atol=1e-5)
    extract_to_folder(client, task, tmp_path / "one")
    (whole,) = (tmp_path / "one" / MODULES[0]).glob("*.npy")
    assert whole.name == "features_0-100.npy"


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


def test_errors_of_the_disk_keep_complete_files(
    client: Client, originals: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    blocked = chunk_paths(tmp_path, MODULES[1], 100)[1]
    blocked.mkdir(parents=True)
    with pytest.raises(errors.StorageError, match="32 of 100 images are complete for"):
        extract_to_folder(client, task_of(originals), tmp_path, options=CHUNKS)
    blocked.rmdir()
    extract_to_folder(client, task_of(originals), tmp_path, options=CHUNKS)
    assert_chunks(tmp_path, expected)


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
    assert "are missing or changed: images from 64 on" in told
    assert "Resuming at image 64 of 100" in told
    assert_chunks(tmp_path, expected)


def test_arrays_and_images_of_unknown_number_resume_too(
    client: Client, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = np.random.default_rng(0).normal(size=(20, 3, 48, 48)).astype(np.float32)
    pairs = [(f"input {row}", values) for row, values in enumerate(inputs)]
    whole = Task(SQUEEZENET, MODULES, partial(queue_images, inputs), ExtractOptions(batch_size=4))
    unknown = replace(whole, images=lambda: queue_images(pair for pair in pairs))
    expected = in_memory(client, replace(whole))
    options, stop = FolderOptions(step_size=2), Stop(at=17)
    for name, task, count in (("known", whole, " of 20"), ("unknown", unknown, "")):
        out = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            extract_to_folder(client, task, out, options=options, progress=stop)
        capsys.readouterr()
        extract_to_folder(client, task, out, options=options)
        assert capsys.readouterr().err == f"Resuming at image 16{count}: {out}\n"
        extract_to_folder(client, task, out, options=replace(options, in_one_file=True))
        for module, rows in expected.items():
            np.testing.assert_array_equal(np.load(out / module / "features.npy"), rows)
    inputs[3] += 1
    with pytest.raises(errors.InvalidRequestError, match="image 3, '3', had SHA-256"):
        extract_to_folder(client, whole, tmp_path / "known", options=options)
    inputs[3] -= 1
    fewer = replace(whole, images=partial(queue_images, np.delete(inputs, [3, 19], axis=0)))
    gone = extract_to_folder(client, fewer, tmp_path / "known", options=options)
    assert [one.place for one in gone] == [3, 19]


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
    assert "Already complete" in capsys.readouterr().err
    extract_to_file(client, replace(task, flatten=True), tmp_path, file_format=file_format)
    assert computed() == 100
    assert "is from another extraction, and is replaced" in capsys.readouterr().err
    assert form.read(path)[MODULES[0]].ndim == 2


def test_a_format_is_refused_before_anything_is_computed(
    client: Client, originals: Path, tmp_path: Path, computed: Callable[[], int]
) -> None:
    with pytest.raises(errors.InvalidRequestError, match="npy, npz"):
        extract_to_file(client, task_of(originals), tmp_path, file_format="xls")
    for file_format, fault in (("npy", "holds one array, got 2"), ("txt", "holds one array")):
        with pytest.raises(errors.InvalidRequestError, match=fault):
            extract_to_file(client, task_of(originals), tmp_path, file_format=file_format)
    alone = task_of(originals, modules=MODULES[:1])
    with pytest.raises(errors.InvalidRequestError, match="at most 2 dimensions"):
        extract_to_file(client, alone, tmp_path, file_format="txt")
    assert computed() <= 3 * BATCH, "the server may have begun when the shapes were refused"
