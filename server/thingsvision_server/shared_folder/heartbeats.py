"""Tells which of the servers that share a folder are alive.

Each server has a file in the folder, its heart, which it changes every few seconds. A server whose
heart has not changed for a while, by the reader's own clock, is dead; so is a process of this
machine that the system no longer has. Clocks that differ and locks that fail don't matter.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import structlog

_SUFFIX = ".alive"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Process:
    """Where a server runs: what its heart says about it."""

    host: str
    pid: int
    boot: str = ""
    """Of the machine, since it was started; two containers of one machine have the same."""
    pids: str = ""
    """The namespace in which `pid` is a process."""
    started: str = ""
    """When the process started, in the clock of its machine: another may have its id later."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass
class _Seen:
    """What this server has seen of another's heart."""

    content: tuple[bytes, int]
    """The heart's bytes, and its time in nanoseconds."""
    process: Process | None
    silent_seconds: float = 0.0


class Heartbeats:
    """Let this server's heart beat in a folder, and tell which other hearts do. Thread-safe.

    Args:
        folder: Where the hearts are; it is made when it is missing.
        beat_seconds: How often this server's heart changes, and the others' are looked at.
        stale_seconds: How long a heart must not have changed for its server to be dead.

    """

    def __init__(
        self, folder: Path, *, beat_seconds: float = 3.0, stale_seconds: float = 30.0
    ) -> None:
        self.server = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._folder = folder
        self._beat_seconds = beat_seconds
        self._stale_seconds = stale_seconds
        self._lock = threading.RLock()
        self._process = _this_process()
        self._count = 0
        self._can_write = True
        self._beaten_at = -stale_seconds
        self._looked_at = time.monotonic()
        self._seen: dict[str, _Seen] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._after_loss: list[Callable[[], None]] = []
        self._after_death: list[Callable[[str], None]] = []
        self._at_each_beat: list[Callable[[], None]] = []
        self.beat()

    def start(self) -> None:
        """Let the heart beat until `close`, in a thread."""
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the heart and remove it: at once, this server counts as dead."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):
            self._path(self.server).unlink(missing_ok=True)

    def after_loss(self, call: Callable[[], None]) -> None:
        """Have something called when others may have taken this server for dead.

        They may have removed whatever it had put into the folder: put it there again.
        """
        self._after_loss.append(call)

    def after_death(self, call: Callable[[str], None]) -> None:
        """Have something called with the name of each server that has died, from now on."""
        self._after_death.append(call)

    def at_each_beat(self, call: Callable[[], None]) -> None:
        """Have something called at each beat, in the thread of the heart."""
        self._at_each_beat.append(call)

    def beat(self) -> None:
        """Change this server's heart."""
        with self._lock:
            self._count += 1
            facts = asdict(self._process) | {"beat": f"{self._count:012}"}
            path = self._path(self.server)
            was_lost = self._count > 1 and not path.exists()
            try:
                _overwrite(path, json.dumps(facts).encode())
                self._can_write = True
            except OSError as error:
                self._beat_without_room(path, error)
            self._beaten_at = time.monotonic()
        if was_lost:
            _log.warning("other servers took this one for dead", path=str(path))
            for call in self._after_loss:
                call()

    def _beat_without_room(self, path: Path, error: OSError) -> None:
        """Change only the time of the heart, which works on a full disk."""
        if self._can_write:  # a folder that can only be read is no news every few seconds
            _log.warning("a heartbeat can't be written", path=str(path), reason=str(error))
        self._can_write = False
        with suppress(OSError):
            os.utime(path)

    def beat_if_late(self) -> None:
        """Change the heart if that is overdue, as after a pause of the whole process."""
        if time.monotonic() - self._beaten_at > self._stale_seconds / 2:
            self.beat()

    def is_alive(self, server: str) -> bool:
        """Return whether a server is alive, as far as this server has seen.

        A heart that was never looked at before is alive, unless its process ran on this machine.
        """
        if server == self.server:
            return True
        with self._lock:
            return self._look_at(server, 0.0)

    def others(self) -> bool:
        """Return whether other servers were alive when this one looked last."""
        return bool(self._seen)

    def process(self, server: str) -> Process | None:
        """Return where a server runs; None if its heart is gone or says nothing."""
        with suppress(OSError):
            return _parse(self._path(server).read_bytes())
        return None

    def look(self) -> None:
        """Look at all hearts; remove the dead, and tell who asked for that."""
        with self._lock:
            now = time.monotonic()
            # While this process was paused it has seen nothing of the others.
            passed = min(now - self._looked_at, 2 * self._beat_seconds)
            self._looked_at = now
            others = {path.stem for path in self._folder.glob(f"*{_SUFFIX}")} - {self.server}
            dead = [one for one in others | set(self._seen) if not self._look_at(one, passed)]
            for server in dead:
                self._seen.pop(server, None)
                with suppress(OSError):
                    self._path(server).unlink(missing_ok=True)
        for server in dead:
            for call in self._after_death:
                call(server)

    def _run(self) -> None:
        while not self._stopped.wait(self._beat_seconds):
            try:
                self.beat()
                self.look()
                for call in self._at_each_beat:
                    call()
            except OSError as error:  # the disk is away for a while
                _log.warning("other servers can't be looked at", reason=str(error))

    def _look_at(self, server: str, passed_seconds: float) -> bool:
        """Return whether a server is alive, after so many more seconds."""
        try:
            content = _read(self._path(server))
        except FileNotFoundError:
            return False
        except OSError:  # nothing is known
            return True
        seen = self._seen.get(server)
        if seen is None or seen.content != content:
            seen = self._seen[server] = _Seen(content, _parse(content[0]))
        else:
            seen.silent_seconds += passed_seconds
        if seen.silent_seconds >= self._stale_seconds:
            return False
        return seen.process is None or not _has_ended(seen.process, self._process)

    def _path(self, server: str) -> Path:
        return self._folder / f"{server}{_SUFFIX}"


def _overwrite(path: Path, content: bytes) -> None:
    """Write a file of always the same length in its place, which needs no room on the disk."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.pwrite(number, content, 0)
    finally:
        os.close(number)


def _read(path: Path) -> tuple[bytes, int]:
    """Return the content of a heart, and when it was changed. Opened, a network's file is fresh."""
    with path.open("rb") as file:
        return file.read(), os.fstat(file.fileno()).st_mtime_ns


def _parse(content: bytes) -> Process | None:
    """Return what a heart says; None if it is just being written for the first time."""
    try:
        facts = json.loads(content)
        return Process(**{name: facts[name] for name in Process.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        return None


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _this_process() -> Process:
    pids = ""
    with suppress(OSError):
        pids = str(Path("/proc/self/ns/pid").stat().st_ino)
    pid = os.getpid()
    return Process(socket.gethostname(), pid, boot=_boot(), pids=pids, started=_started(pid))


def _started(pid: int) -> str:
    """Return when a process of this machine started; empty if there is no such process."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text()
        # Its name, in parentheses, may have spaces.
        state, *rest = re.sub(r"^.*\)", "", text, flags=re.DOTALL).split()
        return "" if state in "ZX" else rest[18]
    return ""


def _has_ended(process: Process, ours: Process) -> bool:
    """Return whether a process ran where this one does, and runs no more."""
    if not process.boot or (process.boot, process.pids) != (ours.boot, ours.pids):
        return False
    return _started(process.pid) != process.started
