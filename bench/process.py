"""Starts, commands and ends the process of a column."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
END_SECONDS = 30
_LAST_LINES = 12
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


class ColumnError(RuntimeError):
    """A column failed; the message ends with the last lines of its process's log."""


@dataclass(frozen=True)
class Run:
    """A run: the seconds of each repetition, and when the first began and the last ended.

    Both are monotonic times.
    """

    seconds: list[float]
    began: float
    ended: float
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def median_seconds(self) -> float:
        """Return the median of the repetitions."""
        return median(self.seconds)


class ColumnProcess:
    """A process that runs one column's module."""

    def __init__(
        self,
        module: str,
        log_path: Path,
        python: Path | None = None,
        variables: Mapping[str, str] | None = None,
        tree: Path = PROJECT,
    ) -> None:
        self.module = module
        self._log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command(module, python),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=tree,
                env=environment() | dict(variables or {}),
            )

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        return self._process.poll() is not None

    def prepare(self, case: Mapping[str, Any]) -> None:
        """Get the column ready for a case. Raises ColumnError."""
        self._send({"do": "prepare", "case": dict(case)})
        self._receive()

    def run(self, times: int = 1, keep: Path | None = None) -> Run:
        """Run the case; the result's first rows go to the file `keep`. Raises ColumnError."""
        self.start(times, keep)
        return self.finish()

    def start(self, times: int = 1, keep: Path | None = None) -> None:
        """Start a run without waiting for it."""
        self._send({"do": "run", "times": times, "keep": str(keep or "")})

    def finish(self) -> Run:
        """Wait for the run that was started. Raises ColumnError."""
        return Run(**self._receive())

    def __enter__(self) -> ColumnProcess:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def ask_to_end(self) -> None:
        """Have the process end, without waiting for it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        """End the process; kill it after `END_SECONDS`."""
        self.ask_to_end()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._error() from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._error()
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _error(self) -> ColumnError:
        self._process.wait(END_SECONDS)
        return ColumnError(f"{self.module} ended; its log:\n{last_lines(self._log_path)}")


def close_all(processes: Collection[ColumnProcess]) -> None:
    """End processes, all at a time: a process with large libraries takes seconds to end."""
    for process in processes:
        process.ask_to_end()
    for process in processes:
        process.close()


def command(module: str, python: Path | None = None) -> list[str]:
    """Return the command that runs a column's module."""
    return [str(python or sys.executable), "-m", module]


def environment() -> dict[str, str]:
    """Return the environment variables of columns: ours, with quieter libraries."""
    return os.environ | _QUIET


def last_lines(log_path: Path) -> str:
    """Return the end of a log."""
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-_LAST_LINES:])
