"""Tells whether MATLAB still runs, so that its helper ends with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ALIVE = "alive"
"""A file that MATLAB holds open for writing as long as it uses the helper."""


class Parent:
    """The process that started the helper; `pid` 0: it is not known."""

    def __init__(self, folder: Path, pid: int) -> None:
        self._alive = folder / ALIVE
        self._pid = pid
        self._started = _start_of(pid)

    def is_alive(self) -> bool:
        """Tell whether the process runs; True if that can't be told."""
        if sys.platform == "win32":
            return _is_held(self._alive)
        if not self._pid:
            return True
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it is another user's, so that its number was used anew
            return False
        return _start_of(self._pid) == self._started


def _is_held(path: Path) -> bool:
    """Tell whether a process has a file open: Windows doesn't rename such files."""
    other = path.with_name(f"{path.name}.free")
    try:
        path.rename(other)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    other.rename(path)
    return False


def _start_of(pid: int) -> str:
    """Return when a process started, where Linux tells; empty otherwise, and for dead ones."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    state, started = fields[0], fields[19]
    return "" if state in "ZX" else started
