"""The peer's environment: THINGSvision from PyPI with the old versions it pins, made by uv."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .process import PROJECT

PEER = "thingsvision==2.7.3"
PYTHONS = ">=3.10,<3.12"
"""It requires 3.10; the torchvision 0.15.2 that it pins has no wheels from 3.12 on."""

FOLDER = PROJECT / ".cache" / "bench" / "peer"
_COMPLETE = FOLDER / ".complete"


def peer_python() -> Path | None:
    """Return the interpreter of the peer's environment, or None if it was not made."""
    is_complete = _COMPLETE.is_file() and _COMPLETE.read_text() == PEER
    return FOLDER / "bin" / "python" if is_complete else None


def make_peer_environment() -> Path:
    """Make the environment (about 6 GB) unless it exists, and return its interpreter.

    Raises SystemExit if no suitable Python is found, or the packages can't be installed.
    """
    known = peer_python()
    if known is not None:
        return known
    print(f"Making an environment with {PEER} in {FOLDER} (about 6 GB)", file=sys.stderr)
    python = FOLDER / "bin" / "python"
    _uv(["venv", "--clear", "--python", PYTHONS, str(FOLDER)], f"it needs a Python {PYTHONS}")
    _uv(["pip", "install", "--python", str(python), PEER], "its packages can't be installed")
    _COMPLETE.write_text(PEER)
    return python


def _uv(arguments: Sequence[str], why: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run([uv, "--quiet", *arguments], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"No environment for the peer: {why}. uv said:\n{done.stderr.strip()}")
