"""The demo looks at its folder before it installs anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.checkout import CHECKOUT
from thingsvision_client.images.folder import SUFFIXES

DEMO = CHECKOUT / "scripts" / "demo"


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy of the demo, whose installation only says that it would begin."""
    folder = tmp_path / "project" / "scripts"
    folder.mkdir(parents=True)
    shutil.copy(DEMO, folder)
    (folder / "environment").write_text("#!/bin/sh\necho INSTALLS; exit 7\n")
    (folder / "environment").chmod(0o755)
    return folder / "demo"


def run(demo: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(demo), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))


def test_endings_of_images_are_the_clients() -> None:
    found = re.search(r"^endings=\((.*)\)$", DEMO.read_text(), re.MULTILINE)
    assert found is not None
    assert {f".{ending}" for ending in found[1].split()} == SUFFIXES


def test_a_folder_without_images_is_refused_before_the_installation(
    demo: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "no photos"
    empty.mkdir()
    (empty / "notes.txt").touch()
    (empty / "._a.jpg").touch()
    for given, fault in (
        ([tmp_path / "missing"], "there is no folder"),
        ([empty / "notes.txt"], "is not a folder"),
        ([empty], "there are no images (bmp eps gif"),
        ([empty, empty], "give one folder, got 2"),
        (["--nonsense"], "there is no option --nonsense"),
        ([""], "there is no folder"),
    ):
        done = run(demo, *given)
        assert done.returncode == 2, given
        assert fault in done.stderr
        assert "INSTALLS" not in done.stdout


def test_a_folder_with_images_is_taken(demo: Path, tmp_path: Path) -> None:
    photos = tmp_path / "my photos" / "class"
    photos.mkdir(parents=True)
    (photos / "A.JPG").touch()
    for given in ([], [tmp_path / "my photos"]):
        done = run(demo, *given)
        assert (done.returncode, done.stdout) == (7, "INSTALLS\n"), done.stderr
    assert "Usage: scripts/demo [FOLDER]" in run(demo, "--help").stdout
