"""Measures a process's peak memory in a `with` block, on Linux only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_RESET_PEAK = "5"


@dataclass
class Peak:
    """Resident memory at the start, and its peak since, bytes."""

    before_bytes: int
    most_bytes: int = 0

    @property
    def growth_bytes(self) -> int:
        """Return how far the peak was above the memory at the start."""
        return self.most_bytes - self.before_bytes


@contextmanager
def peak_of(process: int | str) -> Iterator[Peak]:
    """Watch a process (a PID, or `self`) in a `with` block; zeros if the system can't tell."""
    clear = Path(f"/proc/{process}/clear_refs")
    if not clear.exists():
        yield Peak(0)
        return
    clear.write_text(_RESET_PEAK)
    peak = Peak(_status_bytes(process, "VmRSS"))
    yield peak
    peak.most_bytes = _status_bytes(process, "VmHWM")


def can_watch() -> bool:
    """Tell whether this system reports peaks."""
    return Path("/proc/self/clear_refs").exists()


def _status_bytes(process: int | str, name: str) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found, f"/proc/{process}/status has no {name}"
    return int(found[1]) * 1024
