"""Starts TensorFlow's child process, sends it requests, and ends it.

Its two channels work in parallel: building a network does not block one that runs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

import structlog

from ...allocator import KEEP_FREED_MEMORY
from ...errors import BackendCrashedError, PreconditionError
from .child.channel import Channel, Message, PeerGoneError

_PROGRAM = Path(__file__).parent / "child"
_START = """
import importlib.util, sys
folder, *numbers = sys.argv[1:]
sys.path[:] = [place for place in sys.path if place]
spec = importlib.util.spec_from_file_location(
    "tensorflow_child", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["tensorflow_child"] = importlib.util.module_from_spec(spec)
from tensorflow_child.serve import main
*descriptors, core_count = map(int, numbers)
main(descriptors, core_count)
"""
_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
_LAST_OUTPUT_BYTES = 2000

_log = structlog.get_logger(__name__)


class ChildProcess:
    """The child process, from its start to its end. Threads may share it."""

    def __init__(self, python: str, *, keep_freed_memory: bool) -> None:
        self.python = python
        self._allocator = KEEP_FREED_MEMORY if keep_freed_memory else {}
        self.user_count = 0
        """Number of its models and current requests; its owner keeps the count."""
        self.is_gone = False
        self._end_lock = threading.Lock()
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._ends, theirs = zip(*(socket.socketpair() for _ in range(3)), strict=True)
        self._build, self._run = (_LockedChannel(Channel(end)) for end in self._ends[:2])
        try:
            self._process = self._start([end.fileno() for end in theirs])
        except OSError as error:
            self._close()
            raise self._unusable(error.strerror or str(error)) from error
        finally:
            for end in theirs:
                end.close()
        self._greet()

    def _start(self, descriptors: list[int]) -> subprocess.Popen[bytes]:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        arguments = [str(_PROGRAM), *map(str, descriptors), str(cores)]
        return subprocess.Popen(  # noqa: S603 - the interpreter is a setting of the server
            [self.python, "-c", _START, *arguments],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, **_ENVIRONMENT, **self._allocator},
            start_new_session=True,  # Ctrl-C is for the server, which drains first
        )

    def _greet(self) -> None:
        try:
            hello, _ = self._build.channel.receive()
        except PeerGoneError:
            code = self._process.wait()
            sentence = f"it ended with code {code}: {self._close()}"
            raise self._unusable(sentence) from None
        if "error" in hello:
            self.end()
            raise self._unusable(hello["message"])

    def _unusable(self, reason: str) -> PreconditionError:
        return PreconditionError(
            f"TensorFlow can't be used with the interpreter {self.python}: {reason}. Install "
            "tensorflow there, or start the server with --tensorflow-python set to the "
            "interpreter of an environment that has it"
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def build(self, call: str, **request: Any) -> Message:
        """Send a request to describe or build a network; raise BackendCrashedError."""
        return self._request(self._build, request | {"call": call}, ())

    def run(self, call: str, *, memory: int | None = None, **request: Any) -> Message:
        """Send a request to a built network, with shared memory; raise BackendCrashedError."""
        descriptors = () if memory is None else (memory,)
        return self._request(self._run, request | {"call": call}, descriptors)

    def _request(
        self, channel: _LockedChannel, request: Message, descriptors: tuple[int, ...]
    ) -> Message:
        try:
            return channel.request(request, descriptors)
        except PeerGoneError:
            raise self._record_crash() from None

    def _record_crash(self) -> BackendCrashedError:
        with self._end_lock:
            if not self.is_gone:
                self.is_gone = True
                output = self._close()
                _log.warning("TensorFlow's process ended", code=self._process.wait(), output=output)
        return BackendCrashedError(
            f"TensorFlow's process ended with code {self._process.returncode} during this "
            "request; the next request restarts it",
            field="model",
        )

    def end(self) -> None:
        """End the process and wait for it."""
        with self._end_lock:
            if not self.is_gone:
                self.is_gone = True
                self._close()
                self._process.wait()

    def _close(self) -> str:
        """Close all files, which ends the process; return the end of its output."""
        for end in self._ends:
            end.close()
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _LAST_OUTPUT_BYTES))
        output = self._output.read().decode(errors="replace")
        self._output.close()
        return " ".join(output.split())


class _LockedChannel:
    """A channel that serves one thread at a time."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._lock = threading.Lock()

    def request(self, request: Message, descriptors: tuple[int, ...]) -> Message:
        with self._lock:
            self.channel.send(request, descriptors)
            reply, _ = self.channel.receive()
            return reply
