"""A rival's server: a process that prints its port, and ends when its standard input closes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

from ..process import PROJECT, command

SERVE = "--serve"
MESSAGE_BYTES = 1024 * 1024


class RivalServer:
    """A module's server in a process of its own."""

    def __init__(self, module: str) -> None:
        pipe = subprocess.PIPE
        words = [*command(module), SERVE]
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd=PROJECT)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(30)


def serve_until_input_ends(port: int) -> None:
    """Print the port, and end the process when its parent closes the pipe."""
    print(port, flush=True)
    sys.stdin.read()
    os._exit(0)


def is_server() -> bool:
    """Tell whether this process was started as a server."""
    return sys.argv[1:] == [SERVE]


def in_background(work: Callable[[], object]) -> None:
    """Run work in a thread that ends with the process."""
    threading.Thread(target=work, daemon=True).start()
