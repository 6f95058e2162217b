"""The process of one column: prepares and runs the cases that it receives.

Orders and replies are JSON, one line each. The module must run under every column's Python,
including the peer's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

KEPT_ROWS = 32
"""How many rows of a result are kept, to be compared with other columns'."""

Case = Mapping[str, Any]
Result = Mapping[str, Any]
"""Arrays by name; the first axis is images."""


class Column:
    """One implementation of the work."""

    def prepare(self, case: Case) -> None:
        """Get ready for a case; untimed, as a user does this once."""
        raise NotImplementedError

    def run(self) -> Result:
        """Do the work of the case once, timed."""
        raise NotImplementedError

    def notes(self) -> dict[str, Any]:
        """Return what a reader should know about the last run."""
        return {}

    def close(self) -> None:
        """Free the column's resources."""


def main(make: Callable[[], Column]) -> None:
    """Execute orders from standard input; with `--once CASE.json`, run one case and exit."""
    replies = _redirect_output()
    column = make()
    try:
        if sys.argv[1:2] == ["--once"]:
            column.prepare(json.loads(Path(sys.argv[2]).read_text()))
            column.run()
            return
        for order in _orders(sys.stdin):
            replies.write(json.dumps(_execute(column, order)) + "\n")
            replies.flush()
    finally:
        column.close()


def _redirect_output() -> IO[str]:
    """Reserve standard output for replies; the output of libraries goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _orders(lines: IO[str]) -> Iterator[dict[str, Any]]:
    for line in iter(lines.readline, ""):
        yield json.loads(line)


def _execute(column: Column, order: dict[str, Any]) -> dict[str, Any]:
    if order["do"] == "prepare":
        column.prepare(order["case"])
        return {}
    result: Result = {}
    seconds, began = [], time.monotonic()
    for _ in range(order["times"]):
        started = time.perf_counter()
        result = column.run()
        seconds.append(time.perf_counter() - started)
    ended = time.monotonic()
    if order["keep"]:
        _keep(result, order["keep"])
    return {"seconds": seconds, "began": began, "ended": ended, "notes": column.notes()}


def _keep(result: Result, path: str) -> None:
    import numpy as np

    np.savez(path, **{name: array[:KEPT_ROWS] for name, array in result.items()})
