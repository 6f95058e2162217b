"""Runs programs that users uploaded: each in a confined process of its own, a guest.

A guest reads its own file and the libraries, and has no network and no other process; what it may
take of memory and processor time is limited.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from ...allocator import KEEP_FREED_MEMORY
from ...errors import BackendCrashedError, DeviceMemoryError, InvalidWeightsError, PreconditionError
from ...host import core_count, host_memory
from ..base import OutOfDeviceMemoryError
from . import sandbox
from .channel import Message
from .keeper import ChildKeeper
from .kinds import ChildKind
from .process import ChildPlan
from .replies import raise_error
from .sandbox import Rules
from .suspects import Suspects
from .template_process import Template, template_of
from .watch import Limits

_log = structlog.get_logger(__name__)

_SERVICE = "thingsvision_server.sources.own.guest_service"
_IDLE_SECONDS = 20.0
_MAX_IDLE = 4
_MIB = 1024**2
_GIB = 1024 * _MIB

_BASE_BYTES = 2 * _GIB
_COPIES = 4
"""A check may hold so many copies of a file in memory, beside a base."""

_ZIP_MAGIC = b"PK"
_FREE_SHARE = 0.8
_CHECK_SECONDS = 300.0
_CHECK_BYTES_PER_SECOND = 10 * _MIB
_BUILD_SECONDS = 1800.0
_PASS_SECONDS = 60.0
_IDLE_LIMIT_SECONDS = 600.0
"""A request may hardly use the processor for so long: a disk may be slow, a machine busy."""

_PASS_FACTOR = 20.0
"""A pass may take so many times the processor time that passes took when the program was tried."""


@dataclass
class Guest:
    """A program's process, and what is known of the program."""

    path: Path
    called: str
    keeper: ChildKeeper
    suspects: Suspects
    identity: tuple[int, int] = (0, 0)
    """Of the file when the guest was made: its process may read that file alone, not another that
    was given its name."""
    image_seconds: float = 0.0
    """Processor time of one image in the passes that showed its modules, at most."""
    last_seconds: float = 0.0
    """Processor time of the last request to build or describe."""
    _end_told: str = ""
    _is_interrupted: bool = False

    @property
    def check_limits(self) -> Limits:
        """Return what reading and checking the file may take."""
        size = _size(self.path)
        seconds = _CHECK_SECONDS + size / _CHECK_BYTES_PER_SECOND
        return Limits(_BASE_BYTES + _COPIES * size, seconds, self._idle_seconds)

    @property
    def build_limits(self) -> Limits:
        """Return what loading it, or the passes that show its modules, may take."""
        return Limits(memory_limit_bytes(self.path), _BUILD_SECONDS, self._idle_seconds)

    @property
    def close_limits(self) -> Limits:
        """Return what freeing a model may take."""
        return Limits(0, _PASS_SECONDS, _PASS_SECONDS)

    @property
    def _idle_seconds(self) -> float:
        return _IDLE_LIMIT_SECONDS + _size(self.path) / _CHECK_BYTES_PER_SECOND

    def pass_limits(self, image_count: int) -> Limits:
        """Return what a pass may take."""
        seconds = _PASS_SECONDS + _PASS_FACTOR * image_count * max(1.0, self.image_seconds)
        return Limits(memory_limit_bytes(self.path), seconds, _IDLE_LIMIT_SECONDS)

    def send(self, call: str, limits: Limits, request: Message) -> Message:
        """Return the reply to a request to build or describe.

        Raises InvalidWeightsError if the request ends the process, even a second time, and
        BackendCrashedError if the process is killed while it starts.
        """
        self._end_told = ""
        try:
            reply = self._try_to_send(call, limits, request)
            if reply is None:  # what ended it may have come from outside
                reply = self._try_to_send(call, limits, request, is_last=True)
        except BackendCrashedError as error:
            if not self._end_told:
                raise
            raise InvalidWeightsError(
                f"{self.called} can't be used: {self._end_told}", subject=self.called
            ) from error
        return reply or {}

    def request(self, call: str, limits: Limits, **request: Any) -> Message:
        """Send a request to build or describe; raise what it raised, else return the reply."""
        reply = self.send(call, limits, request)
        try:
            raise_error(reply)
        except OutOfDeviceMemoryError as error:
            raise DeviceMemoryError(
                f"{self.called} needs more memory than a program may take here "
                f"({limits.memory_bytes:,} bytes): {error}"
            ) from error
        return reply

    def _try_to_send(
        self, call: str, limits: Limits, request: Message, *, is_last: bool = False
    ) -> Message | None:
        """Return the reply; None if the process died, unless this was the last try."""
        with self.keeper.use() as child:
            before = child.cpu_seconds
            try:
                reply = child.build(call, limits=limits, **request)
            except BackendCrashedError:
                # What is ended from outside says nothing about the program.
                self._end_told = "" if child.was_killed else child.end_told
                # A limit is the same the next time.
                if child.is_limited or is_last or self._is_interrupted:
                    raise
                return None
            self.last_seconds = child.cpu_seconds - before
            return reply

    @contextmanager
    def guard(self, inputs: Sequence[Any]) -> Iterator[Limits]:
        """Yield what a pass over these inputs may take, and remember them if it ends the process.

        Raises PreconditionError if they did so twice lately.
        """
        self.suspects.check(self.called, inputs)
        self._is_interrupted = False
        try:
            yield self.pass_limits(sum(map(len, inputs)))
        except BackendCrashedError:
            if not self._is_interrupted:
                self.suspects.note(inputs)
            raise

    def interrupt(self) -> None:
        """End the process, with all that it does now."""
        self._is_interrupted = True
        self.keeper.end()


def memory_limit_bytes(path: Path) -> int:
    """Return the memory that a guest may take: most of what is free, and enough for its file."""
    free = int(_FREE_SHARE * host_memory().available_bytes)
    return max(_BASE_BYTES + _COPIES * _size(path), free)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _identity(path: Path) -> tuple[int, int]:
    """Return what no other file has while this one is open or there."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return 0, 0


def _is_zip(path: Path) -> bool:
    """Return whether a file may be a program of `torch.export`, which needs most of PyTorch."""
    if not path.exists():
        return True
    with path.open("rb") as file:
        return file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC


class GuestRuntime:
    """The guests of a server: started when they are needed, ended when they are idle.

    Threads may share a runtime.
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        keep_freed_memory: bool = True,
        settings: Callable[[], Mapping[str, Any]] = dict,
        service: str = _SERVICE,
    ) -> None:
        self._service = service
        self._device = device
        self._keep_freed_memory = keep_freed_memory
        self._settings = settings
        self._lock = threading.Lock()
        self._is_warm = False
        self._guests: OrderedDict[tuple[Path, bool, bool], Guest] = OrderedDict()

    def _template(self) -> Template:
        return _template_of(self._service, keep_freed_memory=self._keep_freed_memory)

    def warm_up(self) -> None:
        """Start the process that guests are forked from, and keep it until `close`.

        It takes seconds, and happens in a thread: a first guest waits for it.
        """
        with self._lock:
            if self._is_warm:
                return
            self._is_warm = True
        self._template().hold_warm()
        _start_in_thread(self._template())

    @property
    def template(self) -> Template | None:
        """The process that guests are forked from; None if no guest was needed yet."""
        return self._template() if self._is_warm else None

    def guest(
        self,
        path: Path,
        called: str,
        template: Callable[[], Template] | None = None,
        *,
        is_program: bool = True,
    ) -> Guest:
        """Return the guest of a file; its process starts with its first request.

        With a `template`, its process is forked from that, and gets a folder to write in. A file
        that is not a program needs not wait until all is imported that programs need.
        """
        self.warm_up()
        key = path, template is not None, is_program
        with self._lock:
            guest = self._guests.get(key)
            identity = _identity(path)
            if guest is None or guest.identity != identity:
                needs_all = is_program and _is_zip(path)
                needs_folder = template is not None
                plan = self._plan(path, called, needs_folder=needs_folder, needs_all=needs_all)
                keeper = ChildKeeper(template or self._template, plan, idle_seconds=_IDLE_SECONDS)
                guest = self._guests[key] = Guest(
                    path, called, keeper, Suspects(), identity=identity
                )
            self._guests.move_to_end(key)
            idle = [one for one in self._guests.values() if one.keeper.is_idle]
        for other in idle[:-_MAX_IDLE]:
            if other is not guest:
                other.keeper.end_if_idle()
        return guest

    def _plan(self, path: Path, called: str, *, needs_folder: bool, needs_all: bool) -> ChildPlan:
        """Return how the process of a file starts, and what it is confined to."""
        # Drivers of GPUs reserve addresses without taking memory; the watch counts memory.
        memory_bytes = memory_limit_bytes(path) if self._device == "cpu" else 0
        rules = Rules(read=(str(path),), memory_bytes=memory_bytes)
        if needs_folder:
            file_bytes = 2 * _size(path) + 64 * _MIB
            rules = Rules(read=rules.read, memory_bytes=memory_bytes, file_bytes=file_bytes)
        settings = {**self._settings(), "cores": core_count(), "needs_all": needs_all}
        return ChildPlan(f"the process of {called}", settings, rules, needs_folder)

    def forget(self, path: Path) -> None:
        """End the guests of a file, unless a model of it is in memory."""
        with self._lock:
            found = [key for key in self._guests if key[0] == path]
            idle = [self._guests[key] for key in found if not self._guests[key].keeper.is_used]
            for key in found:
                if self._guests[key] in idle:
                    del self._guests[key]
        for guest in idle:
            guest.keeper.end_if_idle()

    def interrupt(self, path: Path) -> None:
        """End what the guests of a file do now."""
        with self._lock:
            guests = [guest for key, guest in self._guests.items() if key[0] == path]
        for guest in guests:
            guest.interrupt()

    def close(self) -> None:
        """End all guests without models; the others end when theirs are closed."""
        with self._lock:
            guests, was_warm = list(self._guests.values()), self._is_warm
            self._is_warm = False
        if was_warm:
            self._template().release_warm()
        for guest in guests:
            guest.keeper.close()


def start_early(*, keep_freed_memory: bool) -> None:
    """Start the process that guests are forked from, beside imports of this process.

    It ends in a minute, unless a runtime keeps it. A single core would do one after the other.
    """
    if core_count() > 1:
        template = _template_of(_SERVICE, keep_freed_memory=keep_freed_memory)
        with template.use():
            _start_in_thread(template)


def _template_of(service: str, *, keep_freed_memory: bool) -> Template:
    allocator = KEEP_FREED_MEMORY if keep_freed_memory else {}
    return template_of(ChildKind("PyTorch", sys.executable, service, tuple(allocator.items())))


def _start_in_thread(template: Template) -> None:
    def start() -> None:
        try:
            template.warm_up()
        except (PreconditionError, BackendCrashedError) as error:
            _log.warning("guests can't start", why=str(error))

    threading.Thread(target=start, name="template", daemon=True).start()


def isolation() -> Mapping[str, str]:
    """Return by what files, network and other processes are denied to guests here.

    What is missing is not denied: an old kernel, another system than Linux, or a container that
    does not allow it.
    """
    return sandbox.available()


def describe_isolation() -> str:
    """Return a sentence about what is denied to guests here, for the operator of a server."""
    denied = isolation()
    told = [f"{what} ({means})" for what, means in denied.items()]
    open_to = [what for what in sandbox.WHAT if what not in denied]
    parts = [f"programs of users are denied {', '.join(told)}" if told else ""]
    parts += [f"this system can't deny them {', '.join(open_to)}" if open_to else ""]
    return "; ".join(filter(None, parts))
