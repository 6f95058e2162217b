"""Watches what child processes take, and ends a process that goes beyond its limits.

One thread looks at all of them, five times a second, as long as there are any.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOOK_SECONDS = 0.2
_MOST_BETWEEN_SECONDS = 1.0
"""Most time that counts between two looks: while this process is stopped, or the machine sleeps, so
does a child, or it can't say that it is done."""

_BUSY_SHARE = 0.02
"""A child that gets this share of a core, or more, is at work, however busy the machine is."""


@dataclass(frozen=True)
class Limits:
    """What a request may take of a child; 0: any."""

    memory_bytes: int = 0
    """Resident memory of the process's own."""
    cpu_seconds: float = 0.0
    idle_seconds: float = 0.0
    """Time in which it hardly uses the processor: it sleeps, or waits for what never comes."""


@dataclass(eq=False)
class _Running:
    """A request that runs now."""

    limits: Limits
    cpu_seconds: float = 0.0
    seconds: float = 0.0


class Watched:
    """A process, with the limits of the requests that it answers now."""

    def __init__(self, pid: int, kill: Callable[[], None]) -> None:
        self.pid = pid
        self.reason = ""
        """Why it was ended; empty: not by the watch."""
        self._kill = kill
        self._running: list[_Running] = []
        self._lock = threading.Lock()
        self._used_seconds = self._looked_at = 0.0
        self._shared_bytes = _shared_bytes(pid)

    @contextmanager
    def limit(self, limits: Limits) -> Iterator[None]:
        """Let a request take no more than this while the context lasts."""
        running = _Running(limits)
        with self._lock:
            if limits != Limits() and not self._running:
                self._looked_at = time.monotonic()
                with suppress(psutil.Error):  # it is gone: the request finds its channel closed
                    self._used_seconds = cpu_seconds(self.pid)
            self._running.append(running)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(running)

    @property
    def own_bytes(self) -> int:
        """The memory that it has taken since it was forked, bytes."""
        return max(0, own_memory_bytes(self.pid) - self._shared_bytes)

    def look(self) -> None:
        """End the process if it has taken more than it may."""
        with self._lock:
            if self.reason or not any(one.limits != Limits() for one in self._running):
                return
            most = min((one.limits.memory_bytes or sys.maxsize) for one in self._running)
            if most != sys.maxsize and (used := self.own_bytes) > most:
                self._end(f"took {used:,} bytes of memory, of {most:,} that it may take, and ended")
                return
            self._charge()

    def _charge(self) -> None:
        """Share the processor time since the last look among the requests that run."""
        used, now = cpu_seconds(self.pid), time.monotonic()
        share = max(0.0, used - self._used_seconds) / len(self._running)
        seconds = min(now - self._looked_at, _MOST_BETWEEN_SECONDS)
        self._used_seconds, self._looked_at = used, now
        for one in self._running:
            one.cpu_seconds += share
            one.seconds += seconds
            if reason := _excess(one):
                self._end(reason)
                return

    def _end(self, reason: str) -> None:
        self.reason = reason
        self._kill()


def _excess(one: _Running) -> str:
    """Return what a request took beyond its limits; empty if it keeps them."""
    most = one.limits.cpu_seconds
    if most and one.cpu_seconds > most:
        return (
            f"took {one.cpu_seconds:.0f} s of processor time, of {most:.0f} s that it may take, "
            "and ended"
        )
    most = one.limits.idle_seconds
    if most and one.seconds > most + one.cpu_seconds / _BUSY_SHARE:
        return (
            f"hung: it took {one.seconds:.0f} s and hardly used the processor "
            f"({one.cpu_seconds:.1f} s), may do so for {most:.0f} s, and ended"
        )
    return ""


class Watch:
    """The thread that looks at all watched processes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: list[Watched] = []
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, watched: Watched) -> None:
        """Look at a process from now on."""
        with self._lock:
            self._watched.append(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                self._thread.start()

    def remove(self, watched: Watched) -> None:
        """Look at a process no more."""
        with self._lock, suppress(ValueError):
            self._watched.remove(watched)

    def _run(self) -> None:
        while True:
            self._wake.wait(_LOOK_SECONDS)
            with self._lock:
                watched = list(self._watched)
                if not watched:
                    self._thread = None
                    return
            for one in watched:
                # It may end at any time.
                with suppress(psutil.Error, OSError, ValueError):
                    one.look()


WATCH = Watch()
"""The watch of this process's children."""


def _shared_bytes(pid: int) -> int:
    """Return the memory that a process has at its start, which it shares with its template."""
    try:
        return own_memory_bytes(pid)
    except (OSError, psutil.Error):
        return 0


def private_bytes(pid: int) -> int:
    """Return the memory of a process that it shares with no other, not with its template, bytes."""
    parts = Path(f"/proc/{pid}/smaps_rollup")
    if not parts.exists():
        return own_memory_bytes(pid)
    kinds = ("Private_Clean:", "Private_Dirty:")
    lines = [line.split() for line in parts.read_text().splitlines()]
    return sum(int(line[1]) * 1024 for line in lines if line[0] in kinds)


def own_memory_bytes(pid: int) -> int:
    """Return the memory of a process that is in no file, bytes."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return int(psutil.Process(pid).memory_info().rss)
    kinds = ("RssAnon:", "RssShmem:")
    lines = [line.split() for line in status.read_text().splitlines()]
    return sum(int(line[1]) * 1024 for line in lines if line and line[0] in kinds)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
