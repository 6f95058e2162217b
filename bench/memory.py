"""The peak of a process's memory while something runs; knows not what. Linux alone tells it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_RESET_PEAK = "5"


@dataclass
class Peak:
    """Resident memory before, and the most of it since, bytes."""

    before_bytes: int
    most_bytes: int = 0

    @property
    def growth_bytes(self) -> int:
        """Return by how much the peak was above what there was before."""
        return self.most_bytes - self.before_bytes


@contextmanager
def peak_of(process: int | str) -> Iterator[Peak]:
    """Watch a process (its number, or `self`) while the context lasts; zeros where none can."""
    clear = Path(f"/proc/{process}/clear_refs")
    if not clear.exists():
        yield Peak(0)
        return
    clear.write_text(_RESET_PEAK)
    peak = Peak(_status_bytes(process, "VmRSS"))
    yield peak
    peak.most_bytes = _status_bytes(process, "VmHWM")


def can_watch() -> bool:
    """Tell whether this system tells peaks."""
    return Path("/proc/self/clear_refs").exists()


def _status_bytes(process: int | str, name: str) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found, f"/proc/{process}/status has no {name}"
    return int(found[1]) * 1024
