"""Prints a line of JSON for each result at once, and keeps it in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Lines:
    """The results of one run, on standard output and in a file; remembers which checks failed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.failed: set[str] = set()
        self._file = path.open("w")

    def write(self, result: Mapping[str, Any], began: float | None = None) -> None:
        """Write a result; add the seconds since `began`, a monotonic time."""
        spent = {} if began is None else {"seconds": round(time.monotonic() - began, 2)}
        line = json.dumps({**result, **spent})
        if result.get("ok") is False:
            self.failed.add(str(result["check"]))
        print(line, flush=True)
        self._file.write(f"{line}\n")
        self._file.flush()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
