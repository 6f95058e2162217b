"""Runs in a child's template: imports a framework once, and forks a child for each request.

It has no threads of its own and computes nothing, so that its copies begin in a known state. The
server's end of its channel closes when the server ends; then the template ends too.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from .channel import Channel, Message, PeerGoneError, close_all
from .serving import serve_child

_WAKE_BYTES = 512
_END = object()


def main(module: str, descriptor: int) -> None:
    """Import what the service in this module needs, then fork children until the server ends."""
    control = Channel(socket.socket(fileno=descriptor))
    try:
        service = import_module(module)
        later = service.preload()
    except ImportError as error:
        control.send({"error": "import", "message": str(error)})
        return
    control.send({})
    _freeze()
    with suppress(PeerGoneError):
        _fork_until_closed(control, service, later or iter(()))
    os._exit(0)


def _freeze() -> None:
    gc.collect()
    gc.freeze()  # collections in children would copy the pages of all these objects


def _fork_until_closed(control: Channel, service: Any, later: Iterator[None]) -> None:
    """Fork a child for each request; import what not all children need while there is none."""
    woken = _wake_on_ends()
    statuses: dict[int, Channel] = {}
    is_ready = False
    while True:
        wait_seconds = None if is_ready else 0.0
        ready, _, _ = select.select([control.socket.fileno(), woken], [], [], wait_seconds)
        if not ready and not is_ready:
            is_ready = next(later, _END) is _END
            if is_ready:
                _freeze()
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, _WAKE_BYTES)
            _report_ends(statuses)
        if control.socket.fileno() in ready:
            request, descriptors = control.receive()
            # A confined child may be unable to import it.
            if request["settings"].get("needs_all") and not is_ready:
                deque(later, maxlen=0)
            build, life, status, output = descriptors
            pid = os.fork()
            if not pid:
                _become_child(service, request, build=build, life=life, output=output)
            close_all([build, life, output])
            statuses[pid] = Channel(socket.socket(fileno=status))
            _reply(control, pid)


def _reply(control: Channel, pid: int) -> None:
    """Send a child's process id, and where there is one the descriptor that stands for it."""
    with suppress(OSError, AttributeError):
        descriptor = os.pidfd_open(pid)
        try:
            control.send({"pid": pid}, (descriptor,))
        finally:
            os.close(descriptor)
        return
    control.send({"pid": pid})


def _wake_on_ends() -> int:
    """Return a descriptor that can be read when a child has ended."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return read_end


def _report_ends(statuses: dict[int, Channel]) -> None:
    """Tell the server how each child ended that has."""
    for pid in list(statuses):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            channel = statuses.pop(pid)
            with suppress(PeerGoneError):
                channel.send({"code": os.waitstatus_to_exitcode(status)})
            channel.socket.close()


def _become_child(service: Any, request: Message, *, build: int, life: int, output: int) -> None:
    """Serve as a child, and never return."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _close_others({0, 1, 2, build, life})
    try:
        serve_child(service, request, build=build, life=life)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _close_others(kept: set[int]) -> None:
    """Close the template's channels, and those of other children."""
    most = os.sysconf("SC_OPEN_MAX")
    folder = "/proc/self/fd"
    found = map(int, os.listdir(folder)) if os.path.isdir(folder) else range(min(most, 65536))  # noqa: PTH112, PTH208
    close_all([one for one in found if one not in kept])
