"""Messages between the server and its child processes: JSON, and shared memory.

Batches and activations are in anonymous files, whose descriptors the messages carry. An anonymous
file has no name, so a process that dies leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_LENGTH = struct.Struct("!I")
_ALIGNMENT = 64
_MAX_MESSAGE_BYTES = 256 * 1024**2
_MAX_DESCRIPTORS = 8

Message = dict[str, Any]


class PeerGoneError(Exception):
    """The process at the other end is gone, or what it sends is not a message."""


@dataclass
class Channel:
    """One end of a socket pair, with one request in flight at a time."""

    socket: socket.socket

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message with open files; raise PeerGoneError."""
        body = json.dumps(message).encode()
        try:
            socket.send_fds(self.socket, [_LENGTH.pack(len(body))], list(descriptors))
            self.socket.sendall(body)
        except OSError as error:
            raise PeerGoneError from error

    def receive(self) -> tuple[Message, list[int]]:
        """Return the next message and its open files; raise PeerGoneError."""
        descriptors: list[int] = []
        try:
            head, descriptors, _, _ = socket.recv_fds(self.socket, _LENGTH.size, _MAX_DESCRIPTORS)
            head += self._receive_exactly(_LENGTH.size - len(head))
            message = self._receive_message(*_LENGTH.unpack(head))
        # What a guest sends may be anything.
        except (OSError, ValueError, RecursionError, PeerGoneError) as error:
            close_all(descriptors)
            raise PeerGoneError from error
        return message, descriptors

    def _receive_message(self, length: int) -> Message:
        if length > _MAX_MESSAGE_BYTES:
            raise PeerGoneError
        message = json.loads(self._receive_exactly(length))
        if not isinstance(message, dict):
            raise PeerGoneError
        return message

    def _receive_exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            part = self.socket.recv(count - len(found))
            if not part:
                raise PeerGoneError
            found += part
        return bytes(found)


@dataclass
class Layout:
    """The offsets of arrays in one block of memory."""

    size_bytes: int = 0
    offsets: list[int] = field(default_factory=list)

    def add(self, byte_count: int) -> None:
        """Append an array of `byte_count` bytes."""
        self.offsets.append(self.size_bytes)
        self.size_bytes += -(-byte_count // _ALIGNMENT) * _ALIGNMENT


def open_memory(size_bytes: int) -> int:
    """Return the descriptor of new anonymous memory, whose size nobody can change."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("thingsvision", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, max(1, size_bytes))
    if hasattr(os, "memfd_create"):
        # A process that reads memory which another one cut off is ended by a signal.
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def map_memory(descriptor: int) -> mmap.mmap:
    """Return the memory of a descriptor, which may be closed afterwards."""
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size)


def close_all(descriptors: list[int]) -> None:
    """Close descriptors that are open."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
