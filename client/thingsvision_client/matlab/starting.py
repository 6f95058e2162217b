"""Starts the helper from MATLAB's own Python, of which only the standard library is used."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from threading import Thread


def start_helper(folder: str, python: str) -> int:
    """Start a helper that ends with this process, and return its process id.

    When the helper has ended, its exit status is in the file `ended`, if the folder still exists.
    """
    log = Path(folder) / "log"
    command = [python, "-m", "thingsvision_client.matlab", folder, "--parent", str(os.getpid())]
    with log.open("wb") as output:
        helper = subprocess.Popen(  # noqa: S603 - the user's own Python
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    Thread(target=_wait, args=(helper, Path(folder)), daemon=True).start()
    return helper.pid


def _wait(helper: subprocess.Popen[bytes], folder: Path) -> None:
    status = helper.wait()
    with suppress(OSError):
        (folder / "ended").write_text(str(status))
