"""Has a child process run the checks in turn, and starts another after a failure or a hang.

A CUDA error may make its process unusable, and a kernel may never end: neither may cost the
results of other checks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from ..process import PROJECT, last_lines
from .checks import CHECKS
from .lines import Lines

START_SECONDS = 120.0
"""A child imports its libraries, and creates its context on the device."""
PRETENDED_FACTOR = 5.0
"""A CPU that stands in for a GPU may be busy with other work."""
END_SECONDS = 30.0


CHILD = (sys.executable, "-m", "bench.gpu.child")


def oversee(
    names: Sequence[str],
    order: Mapping[str, Any],
    environment: Mapping[str, str],
    lines: Lines,
    *,
    command: Sequence[str] = CHILD,
) -> None:
    """Run the checks of these names, and write their results; `command` starts a child."""
    left, described = list(names), False
    factor = PRETENDED_FACTOR if order["pretend"] else 1.0
    while left:
        log = Path(order["scratch"]) / f"child-{len(left)}.log"
        wanted = json.dumps({**order, "names": left, "describe": not described})
        with _Child([*command, wanted], environment, log) as child:
            left = _follow(child, left, lines, factor)
        described = True


def _follow(child: _Child, names: Sequence[str], lines: Lines, factor: float) -> list[str]:
    """Write a child's results until it ends; return the names of the checks that are left.

    Limits of time are `factor` times as long.
    """
    left, began = list(names), time.monotonic()
    deadline = began + factor * START_SECONDS
    while True:
        message = child.next_message(deadline)
        if message is None:
            # Whatever it was at failed; the next child goes on with the check after it.
            if left:
                lines.write({"check": left.pop(0), "ok": False, "error": child.fault()}, began)
            return left
        if "begin" in message:
            began = time.monotonic()
            deadline = began + factor * CHECKS[message["begin"]].limit_seconds
        elif "end" in message:
            left.remove(message["end"])
            if not left or message["failed"]:
                return left
            deadline = time.monotonic() + factor * START_SECONDS
        else:
            lines.write(message)


class _Child:
    """A process that runs checks; its standard output has a message of JSON in each line."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log_path: Path
    ) -> None:
        self._log_path, self._is_late = log_path, False
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=PROJECT,
                env=dict(environment),
            )
        self._messages: Queue[dict[str, Any] | None] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def next_message(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message; None if the process ended, or if the deadline passed."""
        try:
            return self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            self._is_late = True
            return None

    def fault(self) -> str:
        """Return why no message came."""
        if self._is_late:
            return f"took too long, and was ended; its log:\n{last_lines(self._log_path)}"
        code = self._process.wait(END_SECONDS)
        return f"the process ended with {code}; its log:\n{last_lines(self._log_path)}"

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._is_late:
            self._process.kill()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
