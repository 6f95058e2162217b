"""Builds an earlier commit of this project, to compare it with this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .process import PROJECT

_BUILDS = PROJECT / ".cache" / "bench" / "commits"


@dataclass(frozen=True)
class Earlier:
    """A commit: its files, and the packages of its wheel, with compiled stubs."""

    commit: str
    tree: Path
    packages: Path

    @property
    def variables(self) -> Mapping[str, str]:
        """Return environment variables that make Python use this commit's packages."""
        others = os.environ.get("PYTHONPATH")
        return {"PYTHONPATH": os.pathsep.join(filter(None, (str(self.packages), others)))}


def build(revision: str) -> Earlier:
    """Build a commit, or reuse its earlier build. Raises SystemExit if git or the build fails."""
    commit = _run("git", "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    folder = _BUILDS / commit[:12]
    found = Earlier(commit, folder / "tree", folder / "packages")
    if not found.packages.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        found.tree.mkdir(parents=True)
        archive = folder / "tree.tar"
        _run("git", "archive", f"--output={archive}", commit)
        shutil.unpack_archive(archive, found.tree, filter="data")
        _build_packages(found)
    return found


def _build_packages(earlier: Earlier) -> None:
    wheels, unfinished = earlier.tree / "dist", earlier.packages.with_name("unfinished")
    uv = (sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--python", sys.executable)
    _run(*uv, "--out-dir", str(wheels), str(earlier.tree))
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unfinished)
    unfinished.rename(earlier.packages)  # an interrupted build starts over


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return done.stdout
