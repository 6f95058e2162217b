"""Counts the time that the processors spend on a process and its children."""

from __future__ import annotations

import psutil


class ProcessorTime:
    """The processor time of some processes, from now on."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._before = self._now()

    def notes(self, times: int) -> dict[str, float]:
        """Return the seconds of each process per repetition, by its name."""
        now = self._now()
        return {
            f"{name}_processor_s": round((now[name] - before) / times, 2)
            for name, before in self._before.items()
        }

    def _now(self) -> dict[str, float]:
        return {name: _seconds(pid) for name, pid in self._pids.items()}


def _seconds(pid: int) -> float:
    """Return the seconds of a process, of its children, and of its children that have ended."""
    parent = psutil.Process(pid)
    times = parent.cpu_times()
    ended = times.children_user + times.children_system
    found = [times, *(child.cpu_times() for child in parent.children(recursive=True))]
    return float(ended + sum(one.user + one.system for one in found))
