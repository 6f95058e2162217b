"""Holds one child process: sends it requests, watches what it takes, and ends it.

Its channels work in parallel: building a network does not block one that runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from queue import Empty, LifoQueue
from typing import IO, Any

import psutil
import structlog

from ...errors import BackendCrashedError, PreconditionError
from ..device_faults import Verdict, judge_text
from ..taps import Tap
from .blocks import BlockPool
from .channel import Channel, Message, PeerGoneError, close_all
from .pass_memory import PassMemory
from .sandbox import Rules
from .template_process import Template, read_end
from .watch import WATCH, Limits, Watched, cpu_seconds, private_bytes

_STATUS_SECONDS = 5.0
_WORDS_LENGTH, _LOGGED_LENGTH, _OUTPUT_BYTES = 300, 2000, 64 * 1024
_FATAL, _PLACES = "Fatal Python error: ", (" Current thread ", " Thread 0x", " <no Python frame>")
"""Words of `faulthandler`: what it says first, and what begins the list of places."""

_UNLIMITED = Limits()

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ChildPlan:
    """How a child is started."""

    called: str
    """In messages, such as `TensorFlow's process`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """For its service's `prepare`."""
    rules: Rules | None = None
    """What it is confined to; None: it is not confined."""
    needs_folder: bool = False
    """Whether it gets a folder to write in, which goes when it ends."""


class ChildProcess:
    """A child process, from its start to its end. Threads may share it."""

    def __init__(self, template: Template, plan: ChildPlan) -> None:
        self.plan = plan
        self.user_count = 0
        """Number of its models and current requests; its owner keeps the count."""
        self.is_gone = False
        self.end_told = f"{plan.called} was ended by the server"
        """How it ended, in a sentence, when it is gone."""
        self.was_killed = False
        """Whether it was ended from outside, as by a system that is short of memory."""
        self.isolation: Mapping[str, str] = {}
        """By what files, network and other processes are denied to it."""
        self._end_lock = threading.Lock()
        self._idle: LifoQueue[Channel] = LifoQueue()
        self._ends: list[socket.socket] = []
        self._blocks = BlockPool()
        self._template = template
        template.keep()
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._folder = tempfile.mkdtemp(prefix="thingsvision-") if plan.needs_folder else ""
        try:
            self._start()
        except BaseException:
            self._discard()
            raise
        self._greet()

    def _start(self) -> None:
        pairs = [socket.socketpair() for _ in range(3)]
        self._ends, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        try:
            descriptors = (*(end.fileno() for end in theirs), self._output.fileno())
            self._forked = self._template.fork(self._request_of_plan(), descriptors)
        finally:
            for end in theirs:
                end.close()
        build, _, status = self._ends
        self._build, self._build_lock = Channel(build), threading.Lock()
        self._status = Channel(status)
        self._watched = Watched(self._forked.pid, self._kill)
        WATCH.add(self._watched)

    def _request_of_plan(self) -> Message:
        rules, settings = self.plan.rules, dict(self.plan.settings)
        if self._folder:
            settings["folder"] = self._folder
            rules = rules and replace(rules, write=(*rules.write, self._folder))
        return {"settings": settings, "rules": asdict(rules) if rules else None}

    def _greet(self) -> None:
        try:
            hello, found = self._build.receive()
            close_all(found)
        except PeerGoneError:
            ended = self._record_end()
            if self.was_killed:
                raise ended from None
            raise PreconditionError(str(ended)) from None
        if "error" in hello:
            self.end()
            raise PreconditionError(f"{self.plan.called} can't start: {hello['message']}")
        self.isolation = hello["isolation"]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._forked.pid

    @property
    def is_limited(self) -> bool:
        """Whether it was ended because it took more than it may."""
        return bool(self._watched.reason)

    @property
    def own_bytes(self) -> int:
        """The memory that it has taken beside its template's; 0 if it is gone."""
        try:
            return private_bytes(self.pid)
        except (OSError, psutil.Error):
            return 0

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has taken; 0 if it is gone."""
        try:
            return cpu_seconds(self.pid)
        except psutil.Error:
            return 0.0

    def build(self, call: str, *, limits: Limits = _UNLIMITED, **request: Any) -> Message:
        """Send a request to describe or build a network; raise BackendCrashedError."""
        with self._build_lock:
            return self._request(self._build, request | {"call": call}, (), limits)

    def run(
        self,
        call: str,
        *,
        descriptors: tuple[int, ...] = (),
        limits: Limits = _UNLIMITED,
        **request: Any,
    ) -> Message:
        """Send a request to a built network, with open files; raise BackendCrashedError."""
        with self._channel() as channel:
            return self._request(channel, request | {"call": call}, descriptors, limits)

    def run_pass(
        self, inputs: Sequence[Any], taps: Sequence[Tap], limits: Limits, **request: Any
    ) -> tuple[Message, PassMemory]:
        """Run a pass over a batch; return the reply, and the memory with the rows of each tap.

        Raises BackendCrashedError.
        """
        memory = PassMemory(self._blocks, inputs, taps)
        request |= memory.message
        reply = self.run("run", descriptors=memory.descriptors, limits=limits, **request)
        memory.mark_known()
        return reply, memory

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        """Yield a channel that no other thread uses, opened if there is none."""
        try:
            channel = self._idle.get_nowait()
        except Empty:
            channel = self._connect()
        yield channel  # an error leaves it out: a reply may still come
        self._idle.put(channel)

    def _connect(self) -> Channel:
        ours, theirs = socket.socketpair()
        try:
            with self._build_lock:
                self._request(self._build, {"call": "connect"}, (theirs.fileno(),), _UNLIMITED)
        finally:
            theirs.close()
        with self._end_lock:
            self._ends.append(ours)
            if self.is_gone:
                ours.close()
        return Channel(ours)

    def _request(
        self, channel: Channel, request: Message, descriptors: tuple[int, ...], limits: Limits
    ) -> Message:
        try:
            with self._watched.limit(limits):
                channel.send(request, descriptors)
                reply, found = channel.receive()
                close_all(found)
        except PeerGoneError:
            raise self._record_end() from None
        if "error" in reply and judge_text(str(reply.get("message"))) is Verdict.LOST:
            self.end()
            _log.warning(f"{self.plan.called} lost the device", output=reply["message"])
            raise BackendCrashedError(
                f"{self.plan.called} lost the device during this request, and was ended; the next "
                "request restarts it",
                field="model",
            )
        return reply

    def _record_end(self) -> BackendCrashedError:
        """End the process, if only its channel is gone, and return the error that says why."""
        with self._end_lock:
            if not self.is_gone:
                self.is_gone = True
                code = self._wait_for_code()
                self.was_killed = code in (None, -signal.SIGKILL) and not self._watched.reason
                output = read_end(self._output, _OUTPUT_BYTES)
                why = self._watched.reason or _describe_code(code)
                words = _last_words(output) if self.plan.rules else ""
                said = f" (its last words: {words})" if words else ""
                self.end_told = f"{self.plan.called} {why}{said}"
                self._discard()
                _log.warning(f"{self.plan.called} ended", why=why, output=output[-_LOGGED_LENGTH:])
        return BackendCrashedError(
            f"{self.end_told} during this request; the next request restarts it", field="model"
        )

    def _wait_for_code(self) -> int | None:
        """Return the exit code, negative for a signal; None if nobody can tell."""
        self._status.socket.settimeout(_STATUS_SECONDS)
        with suppress(PeerGoneError):
            reply, found = self._status.receive()
            close_all(found)
            return int(reply["code"])
        return None

    def end(self) -> None:
        """End the process and wait for it."""
        with self._end_lock:
            if not self.is_gone:
                self.is_gone = True
                self._kill()
                self._wait_for_code()
                self._discard()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            if self._forked.handle is None:
                os.kill(self._forked.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self._forked.handle, signal.SIGKILL)

    def _discard(self) -> None:
        """Close all files, which ends the process, and remove its folder."""
        for end in self._ends:
            end.close()
        if hasattr(self, "_watched"):
            WATCH.remove(self._watched)
            self._kill()
            if self._forked.handle is not None:
                os.close(self._forked.handle)
        self._output.close()
        self._blocks.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._template.release()


def _last_words(output: str) -> str:
    """Return the end of what a process wrote, without the places in this program's code."""
    _, fatal, rest = output.rpartition(_FATAL)
    words = rest if fatal else output[-_WORDS_LENGTH:]
    for mark in _PLACES:
        words = words.partition(mark)[0]
    return words.strip()


def _describe_code(code: int | None) -> str:
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
