"""The files that MATLAB and its helper share: requests, replies, pieces of arrays, progress.

MATLAB writes `request_{n}.json`, with pixels in `request_{n}.bin`, then an empty `request_{n}.go`.
The helper answers with `head_{n}.json` (what the arrays are) and `piece_{n}_{i}.bin`, if there are
arrays, and at last with `reply_{n}.json`. A piece is a uint64, the number of rows, then the rows of
each array, little-endian, in MATLAB's order. MATLAB removes each piece that it has read; the helper
waits while there are a few. `cancel_{n}` ends the request, `stop` the helper.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import StoppedError

MOST_PIECES = 4
"""Pieces on disk at a time."""

PIECE_BYTES = 32 * 1024 * 1024

_PAUSE_S = 0.002
_PROGRESS_S = 0.2


class Exchange:
    """The files of one request, `number`; `cancelled` is set when MATLAB wants no more of it."""

    def __init__(self, folder: Path, number: int) -> None:
        self.cancelled = Event()
        self._folder = folder
        self._number = number
        self._piece_count = 0
        self._waiting: list[Path] = []
        self._told_at = 0.0

    def is_asked(self) -> bool:
        """Tell whether the request is complete."""
        return self._path("request", ".go").exists()

    def is_cancelled(self) -> bool:
        """Tell whether MATLAB has cancelled the request."""
        return self._path("cancel").exists()

    def read(self) -> dict[str, Any]:
        """Return the request, and remove its files but for the pixels."""
        path = self._path("request", ".json")
        request: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        self._path("request", ".go").unlink()
        return request

    @property
    def pixels(self) -> Path:
        """The file of the request's pixels."""
        return self._path("request", ".bin")

    def send_head(self, head: dict[str, Any]) -> None:
        """Say what the arrays are, before their first piece."""
        self._write_json("head", head)

    def send_piece(self, arrays: Sequence[Array], count: int) -> None:
        """Send the next rows of each array. Raises StoppedError if MATLAB has cancelled."""
        while len(self._waiting) >= MOST_PIECES:
            self.check()
            self._waiting = [path for path in self._waiting if path.exists()]
            if len(self._waiting) >= MOST_PIECES:
                time.sleep(_PAUSE_S)
        path = self._path("piece", f"_{self._piece_count}.bin")
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("xb", buffering=0) as file:
            for part in (np.array([count], "<u8"), *arrays):
                _write(file, part)
        unfinished.replace(path)
        self._waiting.append(path)
        self._piece_count += 1

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Show progress in MATLAB, unless it was shown just now. Raises StoppedError."""
        self.check()
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS_S or done == total:
            self._told_at = now
            self._write_json("progress", {"stage": stage, "done": done, "total": total or 0})

    def check(self) -> None:
        """Raise StoppedError if MATLAB has cancelled."""
        if self.cancelled.is_set():
            raise StoppedError("The call was cancelled.")

    def reply(self, content: dict[str, Any]) -> None:
        """Answer the request."""
        self._write_json("reply", {**content, "piece_count": self._piece_count})

    def remove(self) -> None:
        """Remove what is left of the request, except an answer that MATLAB reads."""
        for path in (self.pixels, self._path("progress", ".json"), self._path("cancel")):
            path.unlink(missing_ok=True)
        if self.cancelled.is_set():
            for path in self._folder.glob(f"*_{self._number}*"):
                path.unlink(missing_ok=True)

    def _path(self, kind: str, ending: str = "") -> Path:
        return self._folder / f"{kind}_{self._number}{ending}"

    def _write_json(self, kind: str, content: dict[str, Any]) -> None:
        path = self._path(kind, ".json")
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        try:
            unfinished.replace(path)
        except PermissionError:  # on Windows, while MATLAB reads the last one
            if kind != "progress":
                raise


def _write(file: Any, array: Array) -> None:
    rest: Any = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view("u1")
    while len(rest):
        rest = rest[file.write(rest) :]


def write_beat(folder: Path, count: int) -> None:
    """Show MATLAB that the helper runs: a number that grows, and the helper's process."""
    path = folder / "beat.tmp"
    path.write_text(f"{count} {os.getpid()}")
    try:
        path.replace(folder / "beat")
    except PermissionError:  # on Windows, while MATLAB reads it
        path.unlink(missing_ok=True)
