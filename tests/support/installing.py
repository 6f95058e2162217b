"""Environments of a user: a wheel of this checkout, installed beside other libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkout import CHECKOUT

PARTS = ("pyproject.toml", "README.md", "LICENSE", "proto", "server", "client")
UNREACHABLE = ("dns error", "failed to fetch", "connection refused", "error sending request")


def uv(*arguments: str | Path) -> None:
    """Run uv; skip if no package index can be reached."""
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode and any(sign in result.stderr.lower() for sign in UNREACHABLE):
        pytest.skip(f"needs a package index: {result.stderr.strip()[-300:]}")
    assert result.returncode == 0, result.stderr


def build_wheel(folder: Path) -> Path:
    """Build a wheel of a copy of this checkout without its stubs: the build writes them."""
    source = folder / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*_pb2*")
    for part in PARTS:
        path = CHECKOUT / part
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, source / part, **({"ignore": ignored} if path.is_dir() else {}))
    uv("build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(folder: Path, python: str | Path = sys.executable) -> Path:
    """Make an empty environment for that Python; return its Python."""
    uv("venv", "--quiet", "--no-project", "--python", python, folder)
    return folder / "bin" / "python"


def install(python: Path, *requirements: str | Path) -> None:
    """Install into the environment of that Python."""
    uv("pip", "install", "--quiet", "--python", python, *requirements)


def run(python: Path, *arguments: str | Path) -> str:
    """Run Python as a user would, far from the checkout and its paths; return what it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    result = subprocess.run(
        [str(python), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=python.parent,
        env=environment | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
