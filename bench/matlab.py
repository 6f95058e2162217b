"""Measures MB/s of the MATLAB client (in Octave, transport `system`) against the Python client.

`python -m bench.matlab [ROUNDS]`: both ask the same server for the same features of the same
images, in turn; features are large and quick to compute, so that passing them on decides.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from thingsvision_client import Client, PreprocessingOverrides

from .interleave import Patience, interleave
from .photographs import copy_photographs, photograph_folder
from .process import PROJECT
from .server import serve

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.0"
SIDE = 448
IMAGES, BATCH_SIZE = 64, 2
ROUNDS = 5


class Octave:
    """An Octave that waits for lines of code."""

    def __init__(self, address: str, photos: Path) -> None:
        command = ["octave-cli", "--norc", "--quiet", "--no-history", "--interactive"]
        self._process = subprocess.Popen(
            [*command, "--no-line-editing"],
            env=os.environ | {"THINGSVISION_PYTHON": sys.executable},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._say(f"addpath('{PROJECT / 'client' / 'matlab'}');")
        self._say(f"c = thingsvision.Client('{address}', 'Verbose', false);")
        self._say(f"changes = struct('Resize', [{SIDE}, {SIDE}], 'Crop', false);")
        self._work = (
            f"tic; A = c.activations('{MODEL}', '{photos}', '{MODULE}', 'BatchSize', {BATCH_SIZE}, "
            "'Preprocessing', changes); t = toc; n = numel(A) * 4 / 1e6; clear A, "
            "printf('MB/s %g\\n', n / t)"
        )

    def measure(self) -> float:
        """Return the MB/s of one call."""
        self._say(self._work)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "MB/s " in line:
                return float(line.rpartition("MB/s ")[2])
        raise RuntimeError("Octave ended")

    def close(self) -> None:
        """End Octave, and its helper."""
        with self._process as process:
            process.kill()

    def _say(self, code: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{code}\n")
        self._process.stdin.flush()


def python_arm(client: Client, photos: Path) -> Callable[[], float]:
    """Return a measure of the Python client."""
    changes = PreprocessingOverrides(resize=(SIDE, SIDE), crop=False)

    def measure() -> float:
        began = time.perf_counter()
        extraction = client.extract(
            MODEL, photos, MODULE, batch_size=BATCH_SIZE, preprocessing=changes
        )
        seconds = time.perf_counter() - began
        return extraction.features[MODULE].nbytes / 1e6 / seconds

    return measure


def main() -> None:
    """Print the median and the spread of both, and their ratio."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        photos = folder / "photos"
        copy_photographs(photograph_folder(None), IMAGES, photos)
        with (
            serve(folder / "log", "--device=cpu", f"--weights-dir={folder}") as server,
            Client(server.address) as client,
        ):
            server.wait_until_idle()
            octave = Octave(server.address, photos)
            arms = {"python": python_arm(client, photos), "system": octave.measure}
            interleave(arms, Patience(1, 600))  # models load, and helpers start
            figures = interleave(arms, Patience(rounds, 600))
            octave.close()
    for name, values in figures.items():
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"{name}: median {median(values):.0f} MB/s, {spread}, {len(values)} rounds")
    print(f"ratio: {median(figures['system']) / median(figures['python']):.2f}")


if __name__ == "__main__":
    main()
