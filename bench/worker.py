"""The process of one column: prepares and runs what it is told to; knows no other column.

It speaks JSON, a line each way, and must run under the Python of every column, the peer's too.
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
"""Rows of a result that are kept, to be compared with other columns'."""

Case = Mapping[str, Any]
Result = Mapping[str, Any]
"""Arrays by name; the first axis is that of the images."""


class Column:
    """One way of doing the work."""

    def prepare(self, case: Case) -> None:
        """Get ready for a case: what a user does once is not timed."""
        raise NotImplementedError

    def run(self) -> Result:
        """Do the work of the case once; it is timed."""
        raise NotImplementedError

    def notes(self) -> dict[str, Any]:
        """Return what a reader should know of the last run."""
        return {}

    def close(self) -> None:
        """End what was started."""


def main(make: Callable[[], Column]) -> None:
    """Work off orders from standard input; or with `--once CASE.json` run one case and end."""
    replies = _own_output()
    column = make()
    try:
        if sys.argv[1:2] == ["--once"]:
            column.prepare(json.loads(Path(sys.argv[2]).read_text()))
            column.run()
            return
        for order in _orders(sys.stdin):
            replies.write(json.dumps(_obey(column, order)) + "\n")
            replies.flush()
    finally:
        column.close()


def _own_output() -> IO[str]:
    """Take standard output for the replies: what libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _orders(lines: IO[str]) -> Iterator[dict[str, Any]]:
    for line in iter(lines.readline, ""):
        yield json.loads(line)


def _obey(column: Column, order: dict[str, Any]) -> dict[str, Any]:
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
