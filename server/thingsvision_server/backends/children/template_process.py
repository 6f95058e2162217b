"""Starts the templates that children are forked from, one for each kind of child."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from ...errors import BackendCrashedError, PreconditionError
from .channel import Channel, Message, PeerGoneError, close_all
from .kinds import ChildKind, child_environment
from .watch import own_memory_bytes

_PACKAGE = Path(__file__).parents[2]
_START = """
import sys, types
folder, module, control = sys.argv[1:]
sys.path[:] = [place for place in sys.path if place]
package = types.ModuleType("thingsvision_server")
package.__path__ = [folder]
sys.modules["thingsvision_server"] = package
from thingsvision_server.backends.children.template import main
main(module, int(control))
"""
"""Imports this package's modules without being installed in the environment of the interpreter."""

_IDLE_SECONDS = 60.0
_LAST_OUTPUT_BYTES = 2000


@dataclass(frozen=True)
class Forked:
    """A process that a template forked."""

    pid: int
    handle: int | None
    """Its descriptor, which never stands for another process; None where there are none."""


class Template:
    """A process that has imported a framework, and forks children; started when it is needed.

    It ends a minute after the last child, unless it is held warm. Threads may share it.
    """

    def __init__(self, kind: ChildKind) -> None:
        self.kind = kind
        self._lock = threading.Lock()
        self._users = self._warm_holds = 0
        self._timer: threading.Timer | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Channel | None = None

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep the process while the context lasts, and a minute longer."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            self.release()

    def keep(self) -> None:
        """Keep the process until `release`."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Let the process end in a minute, unless others still use it."""
        with self._lock:
            self._users -= 1
            self._schedule_end()

    def hold_warm(self) -> None:
        """Keep the process until `release_warm`, unless its memory is needed: see `end_unused`."""
        with self._lock:
            self._warm_holds += 1

    def release_warm(self) -> None:
        """Let the process end in a minute, unless others still use it."""
        with self._lock:
            self._warm_holds -= 1
            self._schedule_end()

    def _schedule_end(self) -> None:
        if not self._users and not self._warm_holds:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(_IDLE_SECONDS, self._end_if_idle)
            self._timer.daemon = True
            self._timer.start()

    @property
    def own_bytes(self) -> int:
        """The memory that it takes beside files, which its children share; 0 if it does not run."""
        process = self._process
        try:
            return own_memory_bytes(process.pid) if process is not None else 0
        except (OSError, psutil.Error):
            return 0

    @property
    def is_unused(self) -> bool:
        """Whether it has no children: its memory is free when it ends."""
        return not self._users

    def end_unused(self) -> None:
        """End the process if it has no children; the next child starts it again."""
        if self._lock.acquire(blocking=False):  # who holds it forks a child
            try:
                if not self._users:
                    self._close()
            finally:
                self._lock.release()

    def warm_up(self) -> None:
        """Start the process if it does not run.

        Raises PreconditionError, and BackendCrashedError if it is killed meanwhile.
        """
        with self._lock:
            self._open()

    def fork(self, request: Message, descriptors: tuple[int, ...]) -> Forked:
        """Fork a child that answers on these descriptors; raises as `warm_up` does."""
        with self._lock:
            for is_last in (False, True):
                control = self._open()
                try:
                    control.send(request, descriptors)
                    reply, found = control.receive()
                # It was ended from outside since it was used last.
                except PeerGoneError:
                    self._close()
                    if is_last:
                        raise self._ended() from None
                    continue
                handle = found[0] if found else None
                close_all(found[1:])
                return Forked(int(reply["pid"]), handle)
        raise AssertionError

    def _open(self) -> Channel:
        if self._process is not None and self._process.poll() is not None:
            self._close()
        if self._control is None:
            self._control = self._start()
        return self._control

    def _start(self) -> Channel:
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as output:
            try:
                self._process = self._run(theirs.fileno(), output)
            except OSError as error:
                ours.close()
                raise self._unusable(error.strerror or str(error)) from error
            finally:
                theirs.close()
            control = Channel(ours)
            try:
                hello, _ = control.receive()
            except PeerGoneError:
                code = self._process.wait()
                ours.close()
                self._process = None
                if code < 0:  # by a signal, as from a system that is short of memory
                    raise self._ended() from None
                sentence = f"it ended with code {code}: {read_end(output)}"
                raise self._unusable(sentence) from None
            if "error" in hello:
                ours.close()
                self._process.wait()
                self._process = None
                raise self._unusable(hello["message"])
            return control

    def _run(self, descriptor: int, output: IO[bytes]) -> subprocess.Popen[bytes]:
        arguments = [str(_PACKAGE), self.kind.module, str(descriptor)]
        return subprocess.Popen(  # noqa: S603 - the interpreter is a setting of the server
            [self.kind.python, "-c", _START, *arguments],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(child_environment(self.kind)),
            cwd="/" if os.name == "posix" else None,
            start_new_session=True,  # Ctrl-C is for the server, which drains first
        )

    def _ended(self) -> BackendCrashedError:
        return BackendCrashedError(
            f"{self.kind.name}'s process was ended by this server's system while it started; the "
            "next request restarts it",
            field="model",
        )

    def _unusable(self, reason: str) -> PreconditionError:
        kind = self.kind
        return PreconditionError(
            f"{kind.name} can't be used with the interpreter {kind.python}: {reason}. {kind.advice}"
        )

    def _end_if_idle(self) -> None:
        with self._lock:
            if not self._users and not self._warm_holds:
                self._close()

    def _close(self) -> None:
        if self._control is not None:
            self._control.socket.close()
        if self._process is not None:
            self._process.wait()
        self._control = self._process = None


_templates: dict[ChildKind, Template] = {}
_templates_lock = threading.Lock()


def template_of(kind: ChildKind) -> Template:
    """Return the template of a kind of child, which all servers of this process share."""
    with _templates_lock:
        return _templates.setdefault(kind, Template(kind))


def read_end(output: IO[bytes], most_bytes: int = _LAST_OUTPUT_BYTES) -> str:
    """Return the end of what a process wrote, in one line."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - most_bytes))
    return " ".join(output.read().decode(errors="replace").split())
