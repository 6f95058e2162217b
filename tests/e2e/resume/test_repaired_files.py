"""Complete files, of which an image was repaired or removed since: only that is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from support.long_extractions import BATCH, MODULES, break_images, task_of
from support.serving import TestServer
from thingsvision_client import Client, errors, load_features, read_origin, verify
from thingsvision_client.cli import app
from thingsvision_client.files import metadata_path
from thingsvision_client.images.folder import image_names
from thingsvision_client.jobs import extract_to_file

FORMATS = ("npy", "npz", "hdf5", "mat", "txt", "pt", "parquet")
COUNT = 100
BAD = (40, 99)


@pytest.fixture
def broken(images: Path) -> dict[Path, bytes]:
    """What broken images were, by path."""
    return break_images(images, BAD)


@pytest.mark.parametrize("file_format", FORMATS)
def test_only_what_changed_is_done(
    client: Client,
    images: Path,
    broken: dict[Path, bytes],
    expected: dict[str, Any],
    tmp_path: Path,
    computed: Callable[[], int],
    server: TestServer,
    file_format: str,
) -> None:
    modules = MODULES if file_format in ("npz", "hdf5") else MODULES[:1]
    flat = file_format == "txt"
    names = image_names(images)

    def again(**options: Any) -> Path:
        task = replace(task_of(images), modules=modules, flatten=flat)  # as in a new process
        chosen = {"file_format": file_format, "on_error": "skip", "overwrite": False, **options}
        return extract_to_file(client, task, tmp_path / "out", **chosen)

    def assert_holds(path: Path, *without: int) -> None:
        found = load_features(path)
        kept = [place for place in range(COUNT) if place not in without]
        rows = {name: found.features[name] for name in modules}
        for module, array in rows.items():
            wanted = expected[module][kept]
            rounded = array.astype(wanted.dtype)  # text has no types
            np.testing.assert_array_equal(rounded, wanted.reshape(array.shape))
        assert found.names == [names[place] for place in kept]
        assert [one["place"] for one in read_origin(path).get("skipped", [])] == list(without)
        assert verify(path, server=server.address).holds
        assert [one.name for one in path.parent.iterdir() if one.name.endswith(".parts")] == []

    path = again()
    assert_holds(path, *BAD)
    first, last = broken
    first.write_bytes(broken[first])
    computed()
    again()
    assert computed() == BATCH
    assert_holds(path, BAD[1])
    (images / names[7]).unlink()  # a good one
    computed()
    again()
    assert computed() == 0
    assert_holds(path, 7, BAD[1])
    last.unlink()
    computed()
    again(on_error="raise")
    assert computed() == 0
    assert_holds(path, 7, BAD[1])
    assert {one["reason"] for one in read_origin(path)["skipped"]} == {"was removed"}


def test_a_file_that_was_changed_is_still_another(
    client: Client, images: Path, broken: dict[Path, bytes], tmp_path: Path
) -> None:
    task, chosen = task_of(images), {"file_format": "npz", "on_error": "skip", "overwrite": False}
    path = extract_to_file(client, task, tmp_path, **chosen)
    with path.open("ab") as file:
        file.write(b"\0")
    for bad, content in broken.items():
        bad.write_bytes(content)
    with pytest.raises(errors.InvalidRequestError, match="changed since"):
        extract_to_file(client, task_of(images), tmp_path, **chosen)
    metadata_path(path).write_text("{")
    with pytest.raises(errors.InvalidRequestError, match="nothing is known of it"):
        extract_to_file(client, task_of(images), tmp_path, **chosen)
    extract_to_file(client, task_of(images), tmp_path, **{**chosen, "overwrite": True})
    assert len(read_origin(path)["images"]) == COUNT


def test_the_names_of_rows_follow_on_the_command_line(
    images: Path, broken: dict[Path, bytes], tmp_path: Path, server: TestServer
) -> None:
    out, names = tmp_path / "out", image_names(images)
    command = [
        *("extract-features", "--model-name", "squeezenet1_0@random:0", "--source", "torchvision"),
        *("--image-root", str(images), "--module-name", "features.3", "--out-path", str(out)),
        *("--resize", "32", "--no-crop", "--on-error", "skip", "--server", server.address),
    ]

    def rows_and_names() -> tuple[int, list[str]]:
        found = CliRunner().invoke(app, command)
        assert found.exit_code == 0, found.output
        told = read_origin(out / "features.npy")["images"]
        lines = (out / "file_names.txt").read_text().splitlines()
        assert lines == [one["name"] for one in told]
        return len(np.load(out / "features.npy")), lines

    assert rows_and_names()[0] == COUNT - 2
    first, last = broken
    first.unlink()  # what had no row
    count, lines = rows_and_names()
    assert (count, names[41] in lines) == (COUNT - 2, True)
    last.write_bytes(broken[last])
    (images / names[0]).unlink()
    count, lines = rows_and_names()
    assert (count, lines[0], lines[-1]) == (COUNT - 2, names[1], names[-1])
