"""The service of a guest that has been taken over: it does what it is told, in its sandbox."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def preload() -> None:
    """Import nothing more."""


def _read(path: str) -> None:
    Path(path).read_bytes()


def _write(path: str) -> None:
    Path(path).write_text("written by a guest")


def _connect(port: int) -> None:
    with socket.socket() as one:
        one.connect(("127.0.0.1", port))


def _connect_locally(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def _signal(pid: int) -> None:
    os.kill(pid, signal.SIGUSR1)


def _trace(pid: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.ptrace(16, pid, None, None) != 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")


def _run(program: str) -> None:
    subprocess.run([program], check=True)


def _fork(_nothing: None) -> None:
    if not os.fork():
        os._exit(0)


def _divide(_nothing: None) -> None:
    signal.raise_signal(signal.SIGFPE)


def _point_nowhere(_nothing: None) -> None:
    ctypes.string_at(0)


def _loop(_nothing: None) -> None:
    while True:
        pass


def _hang(_nothing: None) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _fill_memory(_nothing: None) -> None:
    kept = []
    while True:
        kept.append(np.ones(2**24))


ACTIONS: Mapping[str, Callable[[Any], None]] = {
    "read": _read,
    "write": _write,
    "connect": _connect,
    "connect locally": _connect_locally,
    "signal": _signal,
    "trace": _trace,
    "run": _run,
    "fork": _fork,
    "divide": _divide,
    "point nowhere": _point_nowhere,
    "loop": _loop,
    "hang": _hang,
    "fill memory": _fill_memory,
}


class Service:
    """Does one of the actions above."""

    def prepare(self, settings: dict[str, Any]) -> None:
        """Have nothing to set."""

    def describe_error(self, error: Exception) -> dict[str, Any] | None:
        """Return the name of the system's error."""
        if isinstance(error, OSError) and error.errno is not None:
            return {"outcome": errno.errorcode[error.errno]}
        return {"outcome": "ENOMEM"} if isinstance(error, MemoryError) else None

    def act(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Do it; the reply says what the system allowed."""
        ACTIONS[request["action"]](request["argument"])
        return {"outcome": "done"}

    def answer_bytes(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Return what no message can hold."""
        return {"outcome": b"\xff"}

    def cut(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Shorten the memory of a pass: whoever reads it would be ended by a signal."""
        os.ftruncate(descriptors[0], 0)
        return {"outcome": "done"}
