"""deploy/apptainer/: its steps are the Dockerfile's, and what runs the image's programs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.checkout import CHECKOUT

APPTAINER = CHECKOUT / "deploy" / "apptainer"


def commands(text: str) -> list[str]:
    """Return the commands that install packages or build, each on one line."""
    joined = re.sub(r"\\\n\s*", "", text)
    parts = [part.strip() for line in joined.splitlines() for part in line.split("&& ")]
    found = [part.removeprefix("RUN ").strip() for part in parts]
    kinds = ("/opt/uv/bin/", "python3 -m venv", "apt-get", "echo ")
    return [re.sub(r"\s+", " ", one) for one in found if one.startswith(kinds)]


def test_the_definition_has_the_steps_of_the_dockerfile() -> None:
    docker = (CHECKOUT / "Dockerfile").read_text()
    definition = (APPTAINER / "thingsvision.def").read_text()
    steps = commands(definition)
    assert len(commands(docker)) > 8
    assert [one for one in commands(docker) if one not in steps] == []
    bases = re.findall(r"^FROM (\S+)", docker, re.MULTILINE)
    assert re.findall(r"^From: (\S+)", definition, re.MULTILINE) == bases
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", docker, re.MULTILINE)
    for file in " ".join(copied).split():
        assert re.search(rf"^    {re.escape(file)} /", definition, re.MULTILINE), file
    kept = "THINGSVISION_TENSORFLOW_PYTHON=/opt/tensorflow/bin/python"
    assert kept in docker
    assert kept in definition


@pytest.mark.parametrize("name", ["thingsvision-server", "envoy", "python"])
def test_a_program_of_the_image_is_run_by_its_name(name: str, tmp_path: Path) -> None:
    """A program that prints what it is asked for stands where Apptainer would be."""
    stand_in = tmp_path / "bin" / "apptainer"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "TV_HOME": str(tmp_path), "TV_BIND": "/scratch"}
    command = [APPTAINER / "bin" / name, "--help", "two words"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    done = run()
    assert done.returncode == 1
    assert done.stderr.startswith(f"No image at {tmp_path}/thingsvision.sif: apptainer build")
    image = tmp_path / "thingsvision.sif"
    image.touch()
    bound = f"{tmp_path},/scratch"
    wanted = ["exec", "--nv", "--bind", bound, str(image), name, "--help", "two words"]
    assert run().stdout.splitlines() == wanted
