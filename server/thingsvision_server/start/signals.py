"""Receives signals in a thread of its own, from the process's first moment to its last."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
_OPTIONAL = ("SIGHUP", "SIGUSR1")
"""Signals that Windows does not have."""

_SAME_SECONDS = 1.0
"""`timeout` signals the process and its group, and Slurm the script of a job, which tells the
server, and the server: that counts once, on a busy machine, too."""

Action = Callable[[], object]


class Signals:
    """What is done on SIGTERM and SIGINT, on SIGHUP, and on SIGUSR1.

    The first stop is `stop`, a later stop ends the process at once; before `stop` is set, so does
    the first. The actions are called in a thread that receives signals also while others compute.
    """

    def __init__(self) -> None:
        self.stop: Action | None = None
        self.reload: Action | None = None
        self.report: Action = faulthandler.dump_traceback
        self._stopped_at = 0.0
        self._missed_reload = False
        self._has_terminal = _has_terminal()
        self._received, self._sent = socket.socketpair()

    def listen(self) -> None:
        """Receive signals from now on. Call this in the main thread."""
        self._sent.setblocking(False)
        signal.set_wakeup_fd(self._sent.fileno(), warn_on_full_buffer=False)
        optional = {getattr(signal, name) for name in _OPTIONAL if hasattr(signal, name)}
        for number in _STOPS | optional:
            signal.signal(number, self._forward if sys.platform == "win32" else _wake)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget)
        threading.Thread(target=self._run, name="signals", daemon=True).start()

    def start_reloading(self, reload: Action) -> None:
        """Set what SIGHUP does, and do it now if one arrived before."""
        self.reload = reload
        if self._missed_reload:
            self._missed_reload = False
            reload()

    def _forward(self, number: int, _frame: object) -> None:
        """Tell the thread: on Windows the event loop has the wakeup descriptor."""
        self._sent.send(bytes([number]))

    def _run(self) -> None:
        while numbers := self._received.recv(1):
            try:
                self._handle(numbers[0])
            except Exception:  # a later signal must be received, whatever this one met
                traceback.print_exc()

    def _handle(self, number: int) -> None:
        if number in _STOPS:
            self._on_stop(number)
        elif number == getattr(signal, "SIGUSR1", None):
            self.report()
        elif number == getattr(signal, "SIGHUP", None):
            self._on_hangup(number)

    def _on_stop(self, number: int) -> None:
        if self.stop is None:
            end_process(0)
        if not self._stopped_at:
            self._stopped_at = time.monotonic()
            self.stop()
        elif time.monotonic() - self._stopped_at > _SAME_SECONDS:
            end_process(128 + number)

    def _on_hangup(self, number: int) -> None:
        if self._has_terminal and not _has_terminal():  # the user closed it
            self._on_stop(number)
        elif self.reload is None:
            self._missed_reload = True
        else:
            self.reload()


def end_process(code: int) -> NoReturn:
    """End this process now, without waiting for threads that compute."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more
            continue
    os._exit(code)


def _has_terminal() -> bool:
    """Tell whether this process has a terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _wake(_number: int, _frame: object) -> None:
    """Do nothing: the thread is told by the wakeup descriptor."""


def _forget() -> None:
    """Give a forked child the usual signals; its own would stop this process."""
    signal.set_wakeup_fd(-1)
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
