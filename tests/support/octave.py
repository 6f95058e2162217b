"""Runs scripts of MATLAB's language in GNU Octave, with the MATLAB client on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.checkout import CHECKOUT

FOLDER = CHECKOUT / "client" / "matlab"
SCRIPTS = CHECKOUT / "tests" / "matlab"
REQUIRED = "THINGSVISION_REQUIRE_OCTAVE"
"""Set where Octave must be there: a test that would be skipped fails."""


def find_octave() -> str:
    """Return Octave's path; without Octave, skip the test, or fail if it is required."""
    found = shutil.which("octave-cli") or shutil.which("octave")
    if found is None:
        reason = "needs GNU Octave 7 or newer: apt-get install octave"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of Octave and of the helper that it starts."""
    paths = [str(CHECKOUT / part) for part in ("proto", "server", "client")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
        "THINGSVISION_PYTHON": sys.executable,
        "OCTAVE_HISTFILE": os.devnull,
        **variables,
    }


def command(script: str) -> list[str]:
    """Return the command that runs a script of `tests/matlab`."""
    code = f"addpath('{FOLDER}'); addpath('{SCRIPTS}'); {script}"
    return [find_octave(), "--norc", "--quiet", "--no-history", "--eval", code]


def run_octave(script: str, folder: Path, **variables: str) -> dict[str, Any]:
    """Run a script, which saves its results in `results.mat` in `folder`, and return them."""
    from scipy.io import loadmat

    done = subprocess.run(
        command(script),
        env=environment(TMPDIR=str(folder), **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    results = folder / "results.mat"
    found: Mapping[str, Any] = loadmat(results, simplify_cells=True) if results.exists() else {}
    return {**found, "printed": done.stdout}
