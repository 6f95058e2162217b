"""What a user sees of a long call: progress, its end by Ctrl-C, short errors, and sizes."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client, get_extractor, load_batches
from thingsvision_client.calls.memory import memory
from thingsvision_client.errors import InvalidRequestError

MODEL = "torchvision/squeezenet1_1@random:0"
MODULE = "features.5"
COUNT = 12


@pytest.fixture(scope="module")
def images(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_tiny_photos(folder, photos, COUNT)
    return folder


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_function_hears_of_the_load_and_of_the_first_image(client: Client, images: Path) -> None:
    heard: list[tuple[str, int, int | None]] = []
    client.extract(MODEL, images, MODULE, batch_size=4, progress=lambda *one: heard.append(one))
    assert heard[:2] == [("loading squeezenet1_1", 0, None), ("extracting", 0, COUNT)]
    assert heard[-1] == ("extracting", COUNT, COUNT)


@pytest.mark.parametrize("bad_place", [1, COUNT - 1])
def test_images_that_are_left_out_are_done_too(
    client: Client, images: Path, tmp_path: Path, bad_place: int
) -> None:
    shutil.copytree(images, tmp_path / "photos")
    bad = sorted((tmp_path / "photos").iterdir())[bad_place]
    bad.write_bytes(bad.read_bytes()[:-30])
    heard: list[tuple[str, int, int | None]] = []
    options = {"on_error": "skip", "progress": lambda *one: heard.append(one)}
    client.extract(MODEL, tmp_path / "photos", MODULE, batch_size=4, **options)
    assert heard[-1] == ("extracting", COUNT, COUNT)
    extractor = get_extractor("squeezenet1_1", False, None, "torchvision", server=client.server)
    batches = load_batches(str(tmp_path / "photos"), str(tmp_path), extractor.get_backend(), 4)
    heard.clear()
    extractor.extract_features(batches, MODULE, output_dir=str(tmp_path / "out"), **options)
    assert ("extracting", COUNT, COUNT) in heard
    assert [done for stage, done, _ in heard if stage == "extracting"][-1] == COUNT


def test_terminals_get_a_bar_and_pipes_none(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    client.extract(MODEL, images, MODULE, batch_size=4)
    shown = terminal.getvalue()
    assert shown.index("loading squeezenet1_1") < shown.index(f"0/{COUNT}")
    assert f"{COUNT}/{COUNT}" in shown
    assert "images/s" in shown
    assert "MB" in shown
    silent = Terminal()
    monkeypatch.setattr(sys, "stderr", silent)
    client.rdm(MODEL, images, MODULE, progress=False)
    client.extract(MODEL, images, MODULE, progress=False)
    assert silent.getvalue() == ""
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    client.extract(MODEL, images, MODULE)
    assert pipe.getvalue() == ""
    client.extract(MODEL, images, MODULE, progress=True)
    assert f"{COUNT}/{COUNT}" in pipe.getvalue()
    with pytest.raises(ValueError, match="`progress` must be True, False, None or a function"):
        client.extract(MODEL, images, MODULE, progress="yes")  # type: ignore[arg-type]


def test_terminals_without_a_size_get_a_bar(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `docker exec -t` and programs that open a pseudo-terminal."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal, os.fdopen(master, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        client.extract(MODEL, images, MODULE, batch_size=4)
        terminal.flush()
        shown = b""
        while f"{COUNT}/{COUNT}".encode() not in shown:
            shown += screen.read(65536)


def test_the_library_has_bars_in_memory_and_to_folders(
    server: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = get_extractor("squeezenet1_1", False, None, "torchvision", server=server.address)
    loader = load_batches(images, tmp_path, "pt", 4)
    for options in ({}, {"output_dir": tmp_path / "out"}):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        extractor.extract_features(loader, MODULE, **options)
        assert f"{COUNT}/{COUNT}" in terminal.getvalue()


def interrupt(stage: str, done: int, _count: int | None) -> None:
    if stage == "extracting" and done >= 4:
        raise KeyboardInterrupt


def test_ctrl_c_says_what_was_kept(
    client: Client,
    server: Any,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        client.extract(MODEL, images, MODULE, batch_size=4, progress=interrupt)
    assert "Interrupted: nothing was kept" in capsys.readouterr().err
    assert len(caught.traceback) == 2, "this test, and one line of the package"
    extractor = get_extractor("squeezenet1_1", False, None, "torchvision", server=server.address)
    usual = {"module_name": MODULE, "output_dir": tmp_path / "out", "step_size": 1}
    loader = load_batches(images, tmp_path, "pt", 2)
    with pytest.raises(KeyboardInterrupt):
        extractor.extract_features(loader, **usual, progress=interrupt)
    told = capsys.readouterr().err
    assert "2 images are complete" in told
    assert "the same call resumes from there" in told
    extractor.extract_features(loader, **usual)
    assert "Resuming at image 2 of 12" in capsys.readouterr().err


SCRIPT = """
from thingsvision_client import Client
Client({server!r}).extract({model!r}, {images!r}, {module!r}, batch_size=4)
"""


@pytest.fixture
def broken(images: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in images.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:-500] if path.name < "00003" else content)
    return folder


def test_errors_are_short_in_scripts_and_notebooks(server: Any, broken: Path) -> None:
    script = SCRIPT.format(server=server.address, model=MODEL, images=str(broken), module=MODULE)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    ours = done.stderr[done.stderr.index("thingsvision_client") :].strip().splitlines()
    assert len(ours) <= 10, done.stderr
    assert "3 of 12 images can't be used" in ours[-1]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(script)])
    with pytest.raises(CellExecutionError):
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    (error,) = [one for one in outputs if one.output_type == "error"]
    text = "\n".join(error.traceback)
    assert text.count("Traceback") == 1
    lines = text.splitlines()
    ours = (
        lines[next(n for n, line in enumerate(lines) if "thingsvision_client/" in line) :]
        if ("thingsvision_client/" in text)
        else lines[-2:]
    )
    assert len([line for line in ours if line.strip()]) <= 10, text
    shown = "".join(one.text for one in outputs if one.output_type == "stream")
    assert "12/12" in shown or "9/12" in shown, "a notebook has a bar"


def test_what_never_fits_is_refused_before_the_first_pass(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = next(images.iterdir())
    rows = memory().total_bytes // (64 * 111 * 111 * 4) + 1
    with pytest.raises(InvalidRequestError, match=r"GB, but this machine .*output_dir.*reduction"):
        client.extract(MODEL, [one] * rows, "features.0")
    fits = client.extract(MODEL, [one], "features.0").features["features.0"]
    real = psutil.virtual_memory()

    def has(total: int, free: int) -> None:
        found = real._replace(total=total, available=free)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: found)

    has(real.total, fits.nbytes - 1)
    with pytest.warns(UserWarning, match=r"3.15 MB, but only 3.15 MB of memory are free"):
        client.extract(MODEL, [one], "features.0")
    has(fits.nbytes - 1, fits.nbytes - 1)
    with pytest.raises(InvalidRequestError, match=r"Features of 1 images have 3.15 MB"):
        client.extract(MODEL, [one], "features.0")
    np.testing.assert_equal(len(client.extract(MODEL, [one], MODULE).images), 1)


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thingsvision_client.calls import memory as module

    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    assert module.memory() == module.Memory(1_000_000, 500_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert module.memory().total_bytes == psutil.virtual_memory().total
    assert module.size_text(118_000_000_000) == "118 GB"
